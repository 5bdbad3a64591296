"""Checkpoints that a reader sees whole or not at all, on local disks and on mounts of object storage.

A checkpoint is a folder. Its files are written first, its manifest last; a folder without a manifest that
verifies is no checkpoint. Nothing is renamed, locked or overwritten, because a bucket can do none of these
safely (Cloud Storage FUSE: no locks, no atomic rename of folders, the last writer wins).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from vlcheck.training.identity import Identity, differences, fingerprint

MANIFEST = "manifest.json"
SCHEMA = "vlcheck.checkpoint/1"
_NAME = re.compile(r"checkpoint-(\d+)(?:-(\d+))?")
READABLE = 0o644
_PIECE = 8 * 2**20


class CheckpointNotWritten(Exception):
    """The disk refused a checkpoint; earlier ones are untouched."""


class BrokenCheckpoint(Exception):
    """A folder is no whole checkpoint; the message says which file and why."""


class OtherRun(Exception):
    """The newest checkpoint was written by a run with other settings; the message lists them."""


@dataclass(frozen=True)
class Content:
    """What goes into a checkpoint: tensors by file and name, and texts by file."""

    tensors: Mapping[str, Mapping[str, torch.Tensor]]
    texts: Mapping[str, str]

    @property
    def size(self) -> int:
        """Bytes, headers not counted."""
        return sum(t.numel() * t.element_size() for named in self.tensors.values() for t in named.values())


@dataclass(frozen=True)
class Checkpoint:
    """A folder whose manifest verified."""

    folder: Path
    step: int
    identity: Identity

    def tensors(self, file: str) -> dict[str, torch.Tensor]:
        """The tensors of a file, on the CPU."""
        loaded: dict[str, torch.Tensor] = load_file(self.folder / file)
        return loaded

    def text(self, file: str) -> str:
        """A text file."""
        return (self.folder / file).read_text("utf-8")


@dataclass(frozen=True)
class Found:
    """The newest whole checkpoint of a folder, and the broken ones that were passed over on the way to it."""

    checkpoint: Checkpoint | None
    broken: Mapping[Path, str] = field(default_factory=dict)
    """Their folders, and what is wrong with each."""


def publish(folder: Path, step: int, content: Content, identity: Identity) -> Checkpoint:
    """Write a checkpoint into a folder that does not exist yet; when this returns it is durable.

    Raises:
        CheckpointNotWritten: if the disk refuses; what was written of it is removed.
    """
    try:
        folder.mkdir(parents=True)
        with ThreadPoolExecutor(len(content.tensors) or 1) as pool:  # one file is hashed while another is written
            written = list(pool.map(lambda name: _stored(folder / name, content.tensors[name]), content.tensors))
        for name, text in content.texts.items():
            _write(folder / name, text)
        files = dict(zip(content.tensors, written, strict=True))
        files |= {name: _described(folder / name) for name in content.texts}
        body = {"schema": SCHEMA, "step": step, "files": files, "identity": identity}
        _write(folder / MANIFEST, json.dumps({**body, "sha256": fingerprint(body)}, indent=1))
        for each in (folder, folder.parent):
            _sync(each)
    except Exception as refused:  # OSError of ours, SafetensorError of the library's for the same full disk
        with contextlib.suppress(OSError):
            remove(folder)
        reason = getattr(refused, "strerror", None) or " ".join(str(refused).split())
        raise CheckpointNotWritten(f"{folder}: {reason}") from refused
    return Checkpoint(folder, step, identity)


def verify(folder: Path) -> Checkpoint:
    """Hold every file of a checkpoint against its manifest.

    Raises:
        BrokenCheckpoint: if the manifest is missing, torn or changed, or a file is missing, shorter, longer or
            changed.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        told = manifest.pop("sha256")
        if told != fingerprint(manifest) or manifest["schema"] != SCHEMA:
            raise BrokenCheckpoint(f"{folder}: {MANIFEST} was changed after it was written")
    except FileNotFoundError as missing:
        raise BrokenCheckpoint(f"{folder}: no {MANIFEST}, so it was never finished") from missing
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as torn:
        raise BrokenCheckpoint(f"{folder}: {MANIFEST} cannot be read: {torn}") from torn
    for name, wanted in manifest["files"].items():
        try:
            if (size := (folder / name).stat().st_size) != wanted["bytes"]:
                raise BrokenCheckpoint(f"{folder}: {name} has {size:,} bytes; its manifest says {wanted['bytes']:,}")
            if _described(folder / name) != wanted:
                raise BrokenCheckpoint(f"{folder}: {name} was changed after it was written")
        except OSError as error:
            raise BrokenCheckpoint(f"{folder}: {name} cannot be read: {error.strerror or error}") from error
    return Checkpoint(folder, manifest["step"], manifest["identity"])


def find_newest(root: Path, identity: Identity) -> Found:
    """The newest whole checkpoint below a folder.

    Raises:
        OtherRun: if that one was written by a run with other settings.
    """
    broken: dict[Path, str] = {}
    for folder in folders(root):
        try:
            found = verify(folder)
        except BrokenCheckpoint as reason:
            broken[folder] = str(reason)
            continue
        check_same_run(found, identity)
        return Found(found, broken)
    return Found(None, broken)


def check_same_run(found: Checkpoint, identity: Identity) -> None:
    """Refuse what a run with other settings wrote.

    Raises:
        OtherRun: listing the settings that differ.
    """
    if found.identity != identity:
        told = "; ".join(differences(found.identity, identity))
        raise OtherRun(f"{found.folder} was written by another run: {told}; choose another training.output_dir")


def folders(root: Path) -> list[Path]:
    """Folders below `root` that are named like checkpoints, newest first."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        found = [
            (int(match[1]), int(match[2] or 0), entry)
            for entry in root.iterdir()
            if (match := _NAME.fullmatch(entry.name)) and entry.is_dir()
        ]
    return [entry for *_, entry in sorted(found, reverse=True)]


def free_name(root: Path, step: int) -> Path:
    """A folder for this step's checkpoint; one that a killed run left behind is never written into."""
    folder, attempt = root / f"checkpoint-{step}", 1
    while folder.exists():
        attempt += 1
        folder = root / f"checkpoint-{step}-{attempt}"
    return folder


def prune(root: Path, newest: Checkpoint, keep: int | None, broken: Collection[Path] = ()) -> None:
    """Remove checkpoints beyond the newest `keep`, and folders that a killed run never finished.

    `newest` stays whatever happens. A folder loses its manifest first, so that it is no checkpoint any more
    before it is no whole one.

    Args:
        broken: folders that are known to be no whole checkpoints; they stay as they are, and count for nothing.
    """
    kept = 0
    for folder in folders(root):
        finished = (folder / MANIFEST).exists()
        if finished and folder in broken:
            continue
        kept += finished
        if folder != newest.folder and (not finished or (keep is not None and kept > keep)):
            with contextlib.suppress(OSError):
                remove(folder)


def remove(folder: Path) -> None:
    """Delete a checkpoint, its manifest first."""
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder)


def check_writable(root: Path) -> None:
    """Make a folder and write to it.

    Raises:
        CheckpointNotWritten: if that is refused.
    """
    probe = root / f".write-test-{os.getpid()}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        _write(probe, "")
        probe.unlink()
    except OSError as refused:
        raise CheckpointNotWritten(f"{root}: {refused.strerror or refused}") from refused


def _stored(file: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, file)
    file.chmod(READABLE)  # safetensors lets nobody else read its files
    _sync(file)
    return _described(file)


def _described(file: Path) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with file.open("rb") as opened:
        while piece := opened.read(_PIECE):
            digest.update(piece)
            size += len(piece)
    return {"bytes": size, "sha256": digest.hexdigest()}


def _write(file: Path, text: str) -> None:
    with file.open("x", encoding="utf-8") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())


def _sync(path: Path) -> None:
    """Have the disk hold a file, or a folder's listing; mounts that cannot sync a folder need not."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if path.is_file():
            raise
    finally:
        os.close(descriptor)
