"""What of an output folder is vlcheck's own: only that is ever removed or written over.

The folder may be shared with another trainer, with PEFT, with the user's notes. A folder is ours where its
manifest says so and every file in it is as it was written, or where its opening says so and nothing but the
files that it names is in it. All else is refused by name before anything is written.
"""

from __future__ import annotations

import json
import os
import re
import stat
from enum import Enum
from pathlib import Path

from vlcheck.training.manifest import (
    LARGEST_BYTES,
    MANIFEST,
    OPENING,
    BrokenCheckpoint,
    Manifest,
    NotOurs,
    describe,
    read_document,
    read_manifest,
    read_opening,
    regular,
)

ADAPTER_FOLDER = "adapter"
METRICS, SUMMARY, CURVE, BOARD = "metrics.jsonl", "run.json", "loss.png", "tensorboard"
SUMMARY_SCHEMA = "vlcheck.run/1"
MOST_NAMED = 3
_DRAFT = re.compile(r"\.tmp[0-9A-Za-z]{6}")
"""What safetensors 0.8 calls a file while it writes it; it is renamed when it is whole."""
_NAME = re.compile(r"checkpoint-([0-9]{1,9})(?:-([0-9]{1,9}))?")


class ForeignFiles(Exception):
    """Things that are not vlcheck's stand where a run would write or remove; the message names them."""


class Standing(Enum):
    """Whose a folder is."""

    WHOLE = "whole"  # a checkpoint, nothing else in it
    TORN = "torn"  # ours, being written or removed when its process ended
    DAMAGED = "damaged"  # ours by its manifest, but changed since, or with other files beside
    FOREIGN = "foreign"


def standing(folder: Path) -> tuple[Standing, str]:
    """Whose a folder is, and why it is not a whole checkpoint.

    Every file is read, so that the answer is about what is there now.
    """
    if folder.is_symlink():
        return Standing.FOREIGN, f"{folder} is a symbolic link"
    try:
        names = {entry.name for entry in os.scandir(folder)}
    except OSError as refused:
        return Standing.FOREIGN, f"{folder} cannot be read: {refused.strerror}"
    try:
        manifest = read_manifest(folder)
    except NotOurs as reason:
        return (Standing.TORN if _being_written(folder, names) else Standing.FOREIGN), str(reason)
    more = sorted(names - manifest.files.keys() - {MANIFEST, OPENING})
    faults = [f"{folder} holds {name!r}, which its {MANIFEST} does not name" for name in more]
    faults += filter(None, (changed(folder, name, manifest) for name in sorted(manifest.files.keys() & names)))
    if faults:
        return Standing.DAMAGED, faults[0]
    if absent := sorted(manifest.files.keys() - names):
        return Standing.TORN, f"{folder}: {absent[0]} cannot be read: No such file or directory"
    return Standing.WHOLE, ""


def changed(folder: Path, name: str, manifest: Manifest) -> str:
    """How a file differs from what its manifest says; empty if it does not.

    Args:
        name: one of the manifest's files.
    """
    wanted = manifest.files[name]
    try:
        if (size := (folder / name).lstat().st_size) != wanted.bytes:
            return f"{folder}: {name} has {size:,} bytes; its manifest says {wanted.bytes:,}"
        if describe(folder / name) != wanted:
            return f"{folder}: {name} was changed after it was written"
    except OSError as error:
        return f"{folder}: {name} cannot be read: {error.strerror or error}"
    return ""


def remove(folder: Path) -> bool:
    """Delete a folder that is ours, file by file; returns whether it was.

    The manifest goes last: a removal that is interrupted leaves a folder that still says whose it is, and no
    whole checkpoint.

    Raises:
        OSError: if the disk refuses.
    """
    state, _ = standing(folder)
    if state not in (Standing.WHOLE, Standing.TORN):
        return False
    last = {MANIFEST: 1, OPENING: 2}
    for name in sorted((entry.name for entry in os.scandir(folder)), key=lambda name: last.get(name, 0)):
        (folder / name).unlink()
    folder.rmdir()
    return True


def folders(root: Path) -> list[Path]:
    """Folders below `root` that are named like checkpoints, newest first."""
    try:
        names = [entry.name for entry in os.scandir(root) if entry.is_dir()]
    except OSError:
        return []
    matches = filter(None, map(_NAME.fullmatch, names))
    found = [(int(match[1]), int(match[2] or 0), root / match[0]) for match in matches]
    return [entry for *_, entry in sorted(found, reverse=True)]


def check_ours(root: Path) -> None:
    """Find out before a run writes anything whether it would write over, or remove, what is not its own.

    Raises:
        ForeignFiles: naming what stands in the way.
    """
    if os.path.lexists(root) and not root.is_dir():
        raise ForeignFiles(f"{root} is no folder; choose another training.output_dir")
    adapter = root / ADAPTER_FOLDER
    faults = []
    if os.path.lexists(adapter):
        state, reason = standing(adapter) if adapter.is_dir() else (Standing.FOREIGN, f"{adapter} is no folder")
        faults += [reason] if state in (Standing.FOREIGN, Standing.DAMAGED) and not _usable(adapter) else []
    for folder in folders(root):
        state, reason = standing(folder)
        faults += [reason] if state is Standing.FOREIGN else []
    faults += _files_in_the_way(root)
    if faults:
        more = f"; and {len(faults) - MOST_NAMED} more" if len(faults) > MOST_NAMED else ""
        raise ForeignFiles(
            f"{'; '.join(faults[:MOST_NAMED])}{more}; vlcheck writes over and removes only what it wrote itself: "
            "move it away, or choose another training.output_dir"
        )


def _being_written(folder: Path, names: set[str]) -> bool:
    """Whether a process of ours ended while it wrote this folder; an empty one holds nothing to lose."""
    if not all(_is_regular(folder / name) for name in names):
        return False
    if names <= {OPENING}:
        return True
    opening = read_opening(folder) if OPENING in names else None
    own = {name for name in names if _DRAFT.fullmatch(name)} | {OPENING, MANIFEST}
    return opening is not None and names <= opening | own


def _usable(adapter: Path) -> bool:
    """A finished adapter that is as it was written, with other files beside: nothing of it will be touched."""
    try:
        manifest = read_manifest(adapter)
    except BrokenCheckpoint:
        return False
    return not adapter.is_symlink() and not any(changed(adapter, name, manifest) for name in manifest.files)


def _files_in_the_way(root: Path) -> list[str]:
    """Files that a record would be added to, or put in the place of, though no run of vlcheck's left them."""
    faults = []
    ours = False
    if os.path.lexists(metrics := root / METRICS) and not (ours := _is_regular(metrics) and _is_record(metrics)):
        faults.append(f"{metrics} is no record of a run of vlcheck's")
    if os.path.lexists(summary := root / SUMMARY):
        try:
            document = read_document(summary) or {}
        except NotOurs:
            document = {}
        if document.get("schema") != SUMMARY_SCHEMA:
            faults.append(f"{summary} is no summary of a run of vlcheck's")
    if os.path.lexists(curve := root / CURVE) and not (ours and _is_regular(curve)):
        faults.append(f"{curve} was not drawn by a run that is recorded here")
    if os.path.lexists(board := root / BOARD) and not board.is_dir():
        faults.append(f"{board} is no folder")
    return faults


def _is_record(metrics: Path) -> bool:
    """Whether the first line is one of ours; a run that was killed at once may have left half of it."""
    with open(regular(metrics), "rb") as opened:  # noqa: PTH123  a descriptor has no path
        line = opened.readline(LARGEST_BYTES)
    if not line:
        return True
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return line.startswith((b'{"step": ', b'{"event": ')) and not line.endswith(b"\n")
    return isinstance(values, dict) and ("event" in values or {"step", "loss"} <= values.keys())


def _is_regular(file: Path) -> bool:
    try:
        return stat.S_ISREG(file.lstat().st_mode)
    except OSError:
        return False
