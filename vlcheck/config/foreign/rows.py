"""Where the rows of a run lie, as other tools' files name them."""

from __future__ import annotations

import re
from pathlib import Path

from vlcheck.config.foreign.draft import Draft
from vlcheck.finding import Json

FILES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow")
"""Ends of a local file's name."""
_COUNTED = re.compile(r"(?P<name>.*?)(?::(?P<subset>[^#/\\]*))?(?:#(?P<count>\d+))?")
_HELD_BACK = "{key} holds back a share of the training rows; all of them were judged as training rows"


def put_source(draft: Draft, name: Json, key: str, *, folders: tuple[Path, ...] = ()) -> None:
    """Set `data.path` where a name is that of a file or folder, else `data.dataset`.

    Args:
        folders: what a relative name may be relative to; by default the config's folder, then the working directory.
    """
    if not isinstance(name, str) or not name:
        draft.doubt(key, "data")
        return
    found = next((path for folder in folders or (draft.folder, Path()) if exists(path := folder / name)), None)
    if found is not None:
        draft.put("data.path", str(found.absolute()), key)
    elif name.startswith((".", "/", "~")) or name.endswith(FILES):
        draft.put("data.path", name if name.startswith((".", "/", "~")) else f"./{name}", key)
    else:
        draft.put("data.dataset", name, key)


def exists(path: Path) -> bool:
    """Whether something is there; no for a name that the file system cannot hold."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def several(draft: Draft, key: str) -> None:
    """Keep a mixture of data sets as not understood: a run's description names one."""
    draft.doubt(key, "data", message="several data sets are mixed, and none was read")


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
