"""Where the rows of a run lie, as other tools' files name them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vlcheck.config.foreign.draft import Draft
from vlcheck.finding import Json

FILES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow")
"""Ends of a local file's name."""
_COUNTED = re.compile(r"(?P<name>.*?)(?::(?P<subset>[^#/\\]*))?(?:#(?P<count>\d+))?")
_HELD_BACK = "{key} holds back a share of the training rows; all of them were judged as training rows"


def put_source(draft: Draft, name: Json, key: str, *, folders: tuple[Path, ...] = ()) -> None:
    """Set `data.path` where a name is that of a file or folder, else `data.dataset`.

    Args:
        folders: what a relative name may be relative to, and the first of them where it is nowhere; by default the
            config's folder, then the working directory.
    """
    if not isinstance(name, str) or not name:
        draft.doubt(key, "data")
        return
    field, value = source(draft, name, folders=folders)
    draft.put(f"data.{field}", value, key)


def source(draft: Draft, name: str, *, folders: tuple[Path, ...] = ()) -> tuple[Literal["path", "dataset"], str]:
    """What a name stands for: a file or folder, else a data set of the Hub; arguments as of `put_source`."""
    found = next((path for folder in folders or (draft.folder, Path()) if exists(path := folder / name)), None)
    if found is not None:
        return "path", str(found.absolute())
    if name.startswith((".", "/", "~")):
        return "path", name
    if not name.endswith(FILES):
        return "dataset", name
    return "path", str((folders[0] / name).absolute()) if folders else f"./{name}"


def exists(path: Path) -> bool:
    """Whether something is there; no for a name that the file system cannot hold."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


@dataclass(frozen=True)
class Rows:
    """One of a run's data sets, as its file names it."""

    name: str
    key: str
    """Of the file."""
    split: Json = None
    split_key: str = ""
    samples: Json = None
    folders: tuple[Path, ...] = ()
    """What a relative name may be relative to, as for `source`."""


def put_rows(draft: Draft, found: Sequence[Rows], key: str) -> None:
    """Set the run's data sets; rows of the second and later ones are trained behind those of the first.

    Args:
        key: of the file, that names them all.
    """
    if not found:
        return
    first, *others = found
    put_source(draft, first.name, first.key, folders=first.folders)
    if first.split is not None:
        draft.put("data.train_split", first.split, first.split_key or first.key)
    if first.samples is not None and "data.train_samples" not in draft.sources:
        draft.put("data.train_samples", first.samples, first.key)
    if not others:
        return
    more: list[dict[str, Json]] = []
    for number, rows in enumerate(others):
        field, value = source(draft, rows.name, folders=rows.folders)
        told = {field: value, "split": rows.split, "samples": rows.samples}
        more.append({name: said for name, said in told.items() if said is not None})
        draft.sources[f"data.more.{number}"] = draft.place(rows.key)
    draft.document.setdefault("data", {})["more"] = more
    draft.sources["data.more"] = draft.place(key)


def held_back(draft: Draft, key: str) -> None:
    """Tell that a share of the training rows is evaluated on."""
    if draft.value(key):
        draft.assumed.append(_HELD_BACK.format(key=key))


def counted(name: str) -> tuple[str, str | None, int | None]:
    """Name, subset and number of rows of `name:subset#1000`, as ms-swift writes them."""
    found = _COUNTED.fullmatch(name)
    if found is None:
        return name, None, None
    return found["name"], found["subset"], int(found["count"]) if found["count"] else None
