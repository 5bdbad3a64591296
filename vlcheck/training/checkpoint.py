"""Checkpoints that a reader sees whole or not at all, on local disks and on mounts of object storage.

A checkpoint is a folder. Its files are written first, its manifest last; a folder without a manifest that
verifies is no checkpoint. Nothing is renamed, locked or overwritten, because a bucket can do none of these
safely (Cloud Storage FUSE: no locks, no atomic rename of folders, the last writer wins).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from vlcheck.training.identity import Identity, differences
from vlcheck.training.manifest import (
    MANIFEST,
    OPENING,
    BrokenCheckpoint,
    Described,
    describe,
    manifest_text,
    opening_text,
    read_manifest,
)
from vlcheck.training.ours import Standing, changed, folders, remove, standing

READABLE = 0o644


class CheckpointNotWritten(Exception):
    """The disk refused a checkpoint; earlier ones are untouched."""


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
        CheckpointNotWritten: if something of this name is there, which stays as it is, or the disk refuses; what
            was written is removed.
    """
    try:
        folder.mkdir(parents=True)
    except OSError as refused:
        raise CheckpointNotWritten(f"{folder}: {refused.strerror or refused}") from refused
    try:
        _write(folder / OPENING, opening_text([*content.tensors, *content.texts]))
        with ThreadPoolExecutor(len(content.tensors) or 1) as pool:  # one file is hashed while another is written
            written = list(pool.map(lambda name: _stored(folder / name, content.tensors[name]), content.tensors))
        for name, text in content.texts.items():
            _write(folder / name, text)
        files = dict(zip(content.tensors, written, strict=True))
        files |= {name: describe(folder / name) for name in content.texts}
        _write(folder / MANIFEST, manifest_text(step, identity, files))
        (folder / OPENING).unlink()
        for each in (folder, folder.parent):
            sync(each)
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
    if folder.is_symlink():
        raise BrokenCheckpoint(f"{folder} is a symbolic link")
    manifest = read_manifest(folder)
    for name in manifest.files:
        if fault := changed(folder, name, manifest):
            raise BrokenCheckpoint(fault)
    return Checkpoint(folder, manifest.step, manifest.identity)


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


def check_newest(root: Path, identity: Identity) -> None:
    """Refuse a folder whose newest checkpoint is another run's, by its manifest alone, before a model is built.

    Raises:
        OtherRun: listing the settings that differ.
    """
    for folder in folders(root)[:1]:
        with contextlib.suppress(BrokenCheckpoint):
            manifest = read_manifest(folder)
            check_same_run(Checkpoint(folder, manifest.step, manifest.identity), identity)


def check_same_run(found: Checkpoint, identity: Identity) -> None:
    """Refuse what a run with other settings wrote.

    Raises:
        OtherRun: listing the settings that differ.
    """
    if found.identity != identity:
        told = "; ".join(differences(found.identity, identity))
        raise OtherRun(f"{found.folder} was written by another run: {told}; choose another training.output_dir")


def free_name(root: Path, step: int) -> Path:
    """A folder for this step's checkpoint; one that a killed run left behind is never written into."""
    folder, attempt = root / f"checkpoint-{step}", 1
    while os.path.lexists(folder):
        attempt += 1
        folder = root / f"checkpoint-{step}-{attempt}"
    return folder


def prune(root: Path, newest: Checkpoint, keep: int | None, broken: Collection[Path] = ()) -> None:
    """Remove checkpoints beyond the newest `keep`, and folders that a killed run never finished.

    `newest` stays whatever happens, and so does all that is not, file for file, as vlcheck wrote it.

    Args:
        broken: folders that are known to be no whole checkpoints; they stay as they are, and count for nothing.
    """
    kept = 0
    for folder in folders(root):
        if whole := folder not in broken and (folder / MANIFEST).exists():
            kept += 1
        beyond = keep is not None and kept > keep
        if folder != newest.folder and (beyond if whole else standing(folder)[0] is Standing.TORN):
            with contextlib.suppress(OSError):
                remove(folder)


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


@contextlib.contextmanager
def taken(file: Path) -> Iterator[None]:
    """Let the disk's refusal of a file be what ends a run.

    Raises:
        CheckpointNotWritten: naming the file, and why.
    """
    try:
        yield
    except OSError as refused:
        raise CheckpointNotWritten(f"{file}: {refused.strerror or refused}") from refused


def _stored(file: Path, tensors: Mapping[str, torch.Tensor]) -> Described:
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, file)
    file.chmod(READABLE)  # safetensors lets nobody else read its files
    sync(file)
    return describe(file)


def _write(file: Path, text: str) -> None:
    with file.open("x", encoding="utf-8") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())


def sync(path: Path) -> None:
    """Have the disk hold a file, or a folder's listing; mounts that cannot sync a folder need not."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if path.is_file():
            raise
    finally:
        os.close(descriptor)
