"""Which parquet or arrow files of a local folder belong to which split: by their names, and by nothing else.

`datasets` would read a README.md of the folder, whose YAML may name files anywhere on this machine or URLs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlcheck.finding import Unavailable

MEANT = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""What `datasets` takes for the names of splits."""
PLACES = (".", "data")
LARGEST_JSON_BYTES = 2**20
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}(?:-[0-9a-f]+)?")


def files_by_split(folder: Path, suffixes: tuple[str, ...]) -> dict[str, list[Path]]:
    """The data files of a folder, and of a `data` folder or folders named after splits in it, by split.

    A file belongs to the split that its name or its folder says; where none says any, all are for training.
    """
    found: dict[str, list[Path]] = {}
    for file in _files(folder, suffixes):
        found.setdefault(_split_of(file, folder), []).append(file)
    return found


def check_saved(folder: Path) -> None:
    """Make sure that a data set saved by `datasets` names no file outside its folder.

    Raises:
        Unavailable: if it does, or what names them cannot be read.
    """
    for file in [folder / "state.json", *sorted(folder.glob("*/state.json"))]:
        if not file.exists():
            continue
        for entry in _document(file).get("_data_files") or ():
            name = entry.get("filename") if isinstance(entry, dict) else None
            if not isinstance(name, str) or Path(name).name != name or "\\" in name:
                raise Unavailable(f"{file} names {str(name)[:80]!r}; allowed: files of its own folder")


def _document(file: Path) -> Mapping[str, Any]:
    try:
        if not file.is_file() or file.stat().st_size > LARGEST_JSON_BYTES:
            raise Unavailable(f"{file} is no regular file of at most {LARGEST_JSON_BYTES:,} bytes")
        document = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Unavailable(f"{file} cannot be read: {type(error).__name__}") from error
    if not isinstance(document, dict) or not isinstance(document.get("_data_files"), list | None):
        raise Unavailable(f"{file} is no state of a data set")
    return document


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    names = {name for names in MEANT.values() for name in names}
    places = [folder / place for place in PLACES]
    for place in PLACES:
        if (folder / place).is_dir():
            places += sorted(entry for entry in (folder / place).iterdir() if entry.name in names and entry.is_dir())
    return [
        file
        for place in dict.fromkeys(places) if place.is_dir()
        for file in sorted(place.iterdir()) if file.suffix in suffixes and file.is_file()
    ]  # fmt: skip


def _split_of(file: Path, folder: Path) -> str:
    if shard := _SHARD.fullmatch(file.stem):
        return shard[1]
    for name in (file.stem, file.parent.name if file.parent != folder else ""):
        words = re.split(r"[-._ 0-9]+", name.lower())
        for split, meant in MEANT.items():
            if set(words) & set(meant):
                return split
    return "train"
