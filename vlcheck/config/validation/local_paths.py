"""The paths a config names: they must exist before anything else is looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from vlcheck.config.reading.quoting import quoted
from vlcheck.finding import Json
from vlcheck.spec import Data, ModelRef

_HUB_ID = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?")


def path_problems(document: Mapping[str, Json], folder: Path) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield the key and what is wrong with it, for `model.id` and the data's paths as they were written."""
    model, data = document.get("model"), document.get("data")
    if isinstance(model, dict) and isinstance(model.get("id"), str) and model["id"]:
        message = _model_problem(str(model["id"]), folder)
        if message:
            yield ("model", "id"), message
    for where, held in _sources(data):
        path = _resolved(held, folder)
        if not _exists(path):
            key = ".".join(map(str, where))
            yield where, f"{key} is {quoted(held)}; allowed: an existing folder or file; {_seen(path)}"


def _sources(data: Json) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Each path of the data section, with its own key path."""
    if not isinstance(data, dict):
        return
    more = data.get("more")
    held: list[tuple[tuple[str | int, ...], Json]] = [(("data", "path"), data.get("path"))]
    for number, source in enumerate(more if isinstance(more, list) else []):
        held.append((("data", "more", number, "path"), source.get("path") if isinstance(source, dict) else None))
    yield from ((where, path) for where, path in held if isinstance(path, str) and path)


def resolved_model(model: ModelRef, folder: Path) -> ModelRef:
    """Make a model's folder absolute; a Hub id stays as it is."""
    return replace(model, id=str(_resolved(model.id, folder))) if _looks_local(model.id) else model


def resolved_data(data: Data, folder: Path) -> Data:
    """Make the samples' paths absolute, and that of a script that holds the collator."""
    if data.collator is not None and (script := data.collator.rpartition(":")[0]).endswith((".py", ".ipynb")):
        data = replace(data, collator=f"{_resolved(script, folder)}:{data.collator.rpartition(':')[2]}")
    more = tuple(
        source if source.path is None else replace(source, path=str(_resolved(source.path, folder)))
        for source in data.more
    )
    return replace(data, path=None if data.path is None else str(_resolved(data.path, folder)), more=more)


def _model_problem(model_id: str, folder: Path) -> str | None:
    if _looks_local(model_id):
        path = _resolved(model_id, folder)
        if _exists(path / "config.json"):
            return None
        seen = f"{path} has no config.json" if _exists(path) else _seen(path)
        return f"model.id is {quoted(model_id)}; allowed: a folder with config.json; {seen}"
    if _HUB_ID.fullmatch(model_id):
        return None
    return (
        f"model.id is {quoted(model_id)}; allowed: a Hub id (name or org/name; letters, digits, . _ -) "
        "or a folder that starts with ./, ../, / or ~"
    )


def _looks_local(model_id: str) -> bool:
    return model_id.startswith(("./", "../", "/", "~")) or model_id in (".", "..")


def _resolved(text: str, folder: Path) -> Path:
    try:
        return (folder.absolute() / Path(text).expanduser()).resolve()
    except (OSError, RuntimeError, ValueError):  # no such user, a loop of links
        return folder.absolute() / text


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # longer than the file system's names
        return False


def _seen(path: Path) -> str:
    return f"{quoted(str(path), 200)[1:-1]} does not exist"
