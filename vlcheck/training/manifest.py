"""The manifest of a checkpoint: what was written into its folder, with sizes and digests.

A folder's files are written between two documents of ours: the opening names them before any is there, the
manifest comes last and describes them. Whatever stands in either is held against its form before it is used:
the folder is the user's, and anyone may have written there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlcheck.training.identity import Identity, fingerprint

MANIFEST, OPENING = "manifest.json", ".vlcheck-unfinished"
SCHEMA, OPENING_SCHEMA = "vlcheck.checkpoint/1", "vlcheck.checkpoint.unfinished/1"
LARGEST_BYTES = 4 * 2**20
MOST_STEPS = 10**9
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PIECE = 8 * 2**20


class BrokenCheckpoint(Exception):
    """A folder is no whole checkpoint; the message says which file and why."""


class NotOurs(BrokenCheckpoint):
    """Nothing in a folder shows that vlcheck wrote it."""


@dataclass(frozen=True)
class Described:
    """A file as a manifest tells of it."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """A manifest that is as it was written."""

    step: int
    identity: Identity
    files: Mapping[str, Described]


def manifest_text(step: int, identity: Identity, files: Mapping[str, Described]) -> str:
    """The text of a manifest, with a digest over itself."""
    body = {
        "schema": SCHEMA,
        "step": step,
        "files": {name: vars(described) for name, described in files.items()},
        "identity": identity,
    }
    return json.dumps({**body, "sha256": fingerprint(body)}, indent=1)


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest.

    Raises:
        NotOurs: if there is none, or none of vlcheck's that is as it was written.
    """
    document = read_document(folder / MANIFEST)
    if document is None:
        raise NotOurs(f"{folder}: no {MANIFEST}, so it was never finished")
    told = document.pop("sha256", None)
    if told != fingerprint(document) or document.get("schema") != SCHEMA:
        raise NotOurs(f"{folder}: {MANIFEST} was changed after it was written")
    match document:
        case {"step": int(step), "files": dict(listed), "identity": dict(identity)} if (
            type(step) is int and 0 <= step <= MOST_STEPS
        ):
            files = {name: _described(folder, name, entry) for name, entry in listed.items()}
            return Manifest(step, identity, files)
    raise NotOurs(f"{folder}: {MANIFEST} lacks a sound step, files or identity")


def opening_text(names: list[str]) -> str:
    """The text that is written before the files of these names are."""
    return json.dumps({"schema": OPENING_SCHEMA, "files": names})


def read_opening(folder: Path) -> frozenset[str] | None:
    """The files that were about to be written into a folder; None if its opening does not say."""
    try:
        document = read_document(folder / OPENING)
    except NotOurs:
        return None
    names = (document or {}).get("files")
    if (document or {}).get("schema") != OPENING_SCHEMA or not isinstance(names, list):
        return None
    return frozenset(name for name in names if isinstance(name, str))


def describe(file: Path) -> Described:
    """Size and digest of a file.

    Raises:
        OSError: if it is no regular file or cannot be read; nothing else is opened, and no link is followed.
    """
    digest, size = hashlib.sha256(), 0
    with open(regular(file), "rb") as opened:
        while piece := opened.read(_PIECE):
            digest.update(piece)
            size += len(piece)
    return Described(size, digest.hexdigest())


def read_document(file: Path) -> dict[str, Any] | None:
    """A JSON object; None if there is no file of this name.

    Raises:
        NotOurs: if something else lies there.
    """
    try:
        with open(regular(file), "rb") as opened:
            text = opened.read(LARGEST_BYTES + 1)
        if len(text) > LARGEST_BYTES:
            raise NotOurs(f"{file} cannot be read: it has more than {LARGEST_BYTES:,} bytes")
        document = json.loads(text.decode("utf-8"))
    except FileNotFoundError:
        return None
    except OSError as refused:
        raise NotOurs(f"{file} cannot be read: {refused.strerror or refused}") from refused
    except (ValueError, RecursionError) as torn:
        raise NotOurs(f"{file} cannot be read: {type(torn).__name__}: {str(torn)[:80]}") from torn
    if not isinstance(document, dict):
        raise NotOurs(f"{file} cannot be read: it holds no JSON object")
    return document


def regular(file: Path) -> int:
    """Open a regular file to read; returns its descriptor.

    Raises:
        OSError: if it is none: to open a pipe is to wait for its writer, and a link may lead anywhere.
    """
    if not stat.S_ISREG(file.lstat().st_mode):
        raise OSError(None, "is no regular file")
    return os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))


def _described(folder: Path, name: str, entry: object) -> Described:
    if name in ("", ".", "..", MANIFEST, OPENING) or any(mark in name for mark in ("/", "\\", "\0")):
        raise NotOurs(f"{folder}: {MANIFEST} names {name[:80]!r}, which is no file of its own folder")
    match entry:
        case {"bytes": int(size), "sha256": str(digest)} if (
            type(size) is int and size >= 0 and _DIGEST.fullmatch(digest)
        ):
            return Described(size, digest)
    raise NotOurs(f"{folder}: {MANIFEST} describes {name[:80]!r} without a sound size and digest")
