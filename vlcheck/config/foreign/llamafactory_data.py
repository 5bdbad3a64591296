"""The rows of a LLaMA-Factory run: names in `dataset`, what `dataset_info.json` says of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlcheck.config.foreign.draft import Draft
from vlcheck.config.foreign.rows import Rows, exists, held_back, put_rows
from vlcheck.config.reading.quoting import closest, quoted
from vlcheck.config.reading.yaml_lines import read_yaml
from vlcheck.spec import ConfigError

INFO = "dataset_info.json"
"""llamafactory/extras/constants.py, DATA_CONFIG."""


def settle_data(draft: Draft) -> None:
    """Find the file behind the name of the run's data set, and tell what its reader makes of it."""
    held_back(draft, "val_size")
    if draft.value("eval_dataset"):
        draft.doubt("eval_dataset", "data", message="is other data than dataset, and was not read")
    names = _names(draft, "dataset")
    if not names:
        draft.refuse("dataset", "dataset names nothing; LLaMA-Factory asks for a name that dataset_info.json knows")
    else:
        put_rows(draft, [rows for name in names if (rows := _named(draft, name)) is not None], "dataset")


def _named(draft: Draft, name: str) -> Rows | None:
    """The rows behind a name; None, and a doubt, where they are not read."""
    wanted = draft.value("dataset_dir")
    if wanted == "ONLINE":
        return Rows(name, "dataset", samples=draft.value("max_samples"))
    written = wanted if isinstance(wanted, str) else "data"
    folder = next((here / written for here in (draft.folder, Path()) if exists(here / written / INFO)), None)
    if folder is None:
        draft.doubt("dataset", "data", message=f"{written}/{INFO} is not here, so no row was read")
        return None
    try:
        known, _ = read_yaml(folder / INFO)
    except ConfigError as unreadable:
        draft.doubt("dataset", "data", message=f"{INFO} cannot be read: {unreadable.problems[0]}")
        return None
    entry = known.get(name)
    if not isinstance(entry, dict):
        near = closest(name, known)
        hint = f"; did you mean {near}?" if near else ""
        draft.refuse("dataset", f"dataset {quoted(name)} is not in {folder / INFO}, where LLaMA-Factory stops{hint}")
        return None
    return _entry(draft, entry, folder, f"{name}: " if len(_names(draft, "dataset")) > 1 else "")


def _entry(draft: Draft, entry: Mapping[str, Any], folder: Path, whose: str) -> Rows | None:
    for fault in _faults(entry):
        draft.doubt("dataset", "data", message=whose + fault)
    if entry.get("formatting", ALPACA) == ALPACA:
        return None
    name = next((entry[key] for key in ("hf_hub_url", "file_name") if entry.get(key)), None)
    if not isinstance(name, str):
        draft.doubt(
            "dataset", "data", message=f"{whose}is {quoted(next(iter(entry), None))} in {INFO}, and was not read"
        )
        return None
    most, count = draft.value("max_samples"), entry.get("num_samples")  # the former counts for each data set
    samples = most if most is not None else count if isinstance(count, int) else None
    return Rows(name, "dataset", entry.get("split") or None, samples=samples, folders=(folder,))


def _faults(entry: Mapping[str, Any]) -> list[str]:
    """What LLaMA-Factory's reader would make of rows that vlcheck's reads otherwise (llamafactory/data/parser.py)."""
    columns = entry["columns"] if isinstance(entry.get("columns"), dict) else {}
    tags = entry["tags"] if isinstance(entry.get("tags"), dict) else {}
    if entry.get("formatting", ALPACA) == ALPACA:
        read = [columns.get(key, name) for key, name in _ALPACA.items()] if not columns else [*columns.values()]
        of = ", ".join(map(str, read))
        return [f"formatting is {ALPACA} in {INFO}, which reads {of} and no messages; its rows were not read here"]
    found = []
    if columns.get("messages", "conversations") not in ("messages", "conversations"):
        found.append(f"messages are read from {quoted(columns['messages'])} in {INFO}, and were not read here")
    if columns.get("images") is None:
        found.append(f"columns of {INFO} names no images, so LLaMA-Factory reads none")
    elif columns["images"] not in ("images", "image"):
        found.append(f"images are read from {quoted(columns['images'])} in {INFO}, and were not read here")
    if columns.get("messages") == "messages" and tags.get("role_tag", "from") == "from":
        found.append(f"tags of {INFO} names no role_tag, so LLaMA-Factory looks for `from` in each message")
    return found


ALPACA = "alpaca"
_ALPACA = {"prompt": "instruction", "query": "input", "response": "output"}


def _names(draft: Draft, key: str) -> list[str]:
    value = draft.value(key)
    given = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    return [str(name).strip() for name in given if str(name).strip()]
