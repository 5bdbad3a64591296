"""One writer at a time for an output folder.

A lease is a small file, `.vlcheck-lease-N`, that is created exclusively: of two processes that create the same
N, one is refused by the file system. N only grows, and the last file stays when a run ends, so that nobody can
take a number that was given out before. The owner renews its file; a process that finds another's lease takes
the folder over at once where that owner is known to be dead (same machine, its process number free or given to
a process that started later), and otherwise after it has watched the file for `EXPIRY_SECONDS` by its own clock
without seeing a renewal. A run that waits does not fail, so a platform's few retries are not used up by it.

Mounts of object storage have no exclusive creation that holds between machines: there the owner is read again
after a pause, and everywhere again before each checkpoint and adapter. What remains possible there: two
processes that start within the same pause may both see their own lease if the mount shows either of them an old
listing for longer than the pause. Then both train, under names that the other may write too, until one reads the
other's lease before its next checkpoint and stops.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vlcheck.training.manifest import NotOurs, read_document

SCHEMA = "vlcheck.lease/1"
EXPIRY_SECONDS = 60.0
"""Without a sign of life for so long, an owner of another machine is taken for dead."""
RENEWAL_SECONDS = 5.0
SETTLING_SECONDS = 5.0
"""Pause before a lease on object storage is read again."""
OBJECT_STORAGE = re.compile(r"fuse\.(gcsfuse|s3fs|goofys|rclone|mount-s3|mountpoint-s3|blobfuse2?|juicefs|geesefs)")
_NAME = re.compile(r"\.vlcheck-lease-([0-9]{1,15})")
_WIDTH = 512


class FolderTaken(Exception):
    """Another process writes to the output folder."""


class LeaseLost(FolderTaken):
    """Another process has taken the output folder over; this one must not write there any more."""


@dataclass(frozen=True)
class Owner:
    """Who holds a lease, and when it was renewed last."""

    name: str
    """Drawn when the lease was taken."""
    machine: str
    """Kernel and process namespace that `process` counts in; empty where that cannot be told."""
    process: int
    started: str
    """When the process started, in its kernel's count; empty where that cannot be told."""
    place: str = ""
    """Device and number of the folder: a copy of it is not held by who holds the original."""
    renewals: int = 0
    released: bool = False


class Lease:
    """The right to write to a folder.

    Args:
        say: told that the run waits for another's lease.
        expiry, renewal: seconds; see `EXPIRY_SECONDS`.
    """

    def __init__(
        self, folder: Path, say: Callable[[str], None], *, expiry: float = EXPIRY_SECONDS, renewal: float | None = None
    ) -> None:
        self._folder, self._say, self._expiry = folder, say, expiry
        self._renewal = min(RENEWAL_SECONDS, expiry / 4) if renewal is None else renewal
        self._owner = Owner(uuid.uuid4().hex, machine(), os.getpid(), started(os.getpid()) or "")
        self._number = 0
        self._over, self._lost = threading.Event(), ""
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        """Take the folder.

        Raises:
            FolderTaken: if a living process holds it.
            OSError: if the folder cannot be written to.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._owner = replace(self._owner, place=place(self._folder))
        seen: tuple[int, Owner | None] = (0, None)
        since = time.monotonic()
        while True:
            number, owner = newest(self._folder)
            free = not number or (owner is not None and (owner.released or dead(owner, self._folder)))
            waited = time.monotonic() - since
            if free or (seen[0] == number and waited > (self._expiry if owner else 1.5 * self._renewal)):
                if self._take(number + 1):
                    break
                continue
            if owner is not None and (alive(owner, self._folder) or _renewed(seen, number, owner)):
                raise FolderTaken(f"{self._folder}: {_told(owner)} writes into it; wait for it, or end it")
            if seen[0] != number:
                since = time.monotonic()
                self._say(
                    f"{self._folder}: another run may still write there; waiting for its sign of life, "
                    f"{self._expiry:g} s at most"
                )
            seen = (number, owner or (seen[1] if seen[0] == number else None))
            time.sleep(min(0.2, self._expiry / 10))
        if on_object_storage(self._folder):
            time.sleep(SETTLING_SECONDS)
        self.check()
        for old in _numbers(self._folder):
            if old < self._number and _owner(_file(self._folder, old)) is not None:
                with contextlib.suppress(OSError):
                    _file(self._folder, old).unlink()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._thread.join()

    def check(self) -> None:
        """Make sure, from the disk, that the folder is still this process's.

        Raises:
            LeaseLost: if it is not.
        """
        number, owner = newest(self._folder)
        if number != self._number or (owner is not None and owner.name != self._owner.name):
            self._lost = f"{self._folder}: {_told(owner)} has taken it over; this run stops"
        if self._lost:
            raise LeaseLost(self._lost)

    def check_known(self) -> None:
        """As `check`, of what the last renewal has seen; reads nothing."""
        if self._lost:
            raise LeaseLost(self._lost)

    def release(self) -> None:
        """Let the next process have the folder at once."""
        self._over.set()
        if not self._lost:
            with contextlib.suppress(OSError, LeaseLost):
                self.check()
                self._write(released=True)

    def _take(self, number: int) -> bool:
        try:
            with _file(self._folder, number).open("xb") as opened:
                opened.write(_text(self._owner))
                opened.flush()
                os.fsync(opened.fileno())
        except FileExistsError:
            return False
        self._number = number
        return True

    def _renew(self) -> None:
        while not self._over.wait(self._renewal):
            try:
                self.check()
                self._write(released=False)
            except LeaseLost:
                return
            except OSError:  # a mount that is away for a moment; the next renewal tells
                continue

    def _write(self, *, released: bool) -> None:
        """Renew in place, always of one length: a reader sees the old text or the new."""
        with self._writing:
            if self._owner.released:
                return
            self._owner = replace(self._owner, renewals=self._owner.renewals + 1, released=released)
            with _file(self._folder, self._number).open("r+b") as opened:
                opened.write(_text(self._owner))


def newest(folder: Path) -> tuple[int, Owner | None]:
    """The highest lease of a folder, 0 if there is none, and its owner, None if its text cannot be read."""
    numbers = _numbers(folder)
    return (numbers[-1], _owner(_file(folder, numbers[-1]))) if numbers else (0, None)


def alive(owner: Owner, folder: Path) -> bool:
    """Whether an owner is known to live."""
    return not owner.released and _same_machine(owner) and bool(owner.started) and not dead(owner, folder)


def dead(owner: Owner, folder: Path) -> bool:
    """Whether an owner is known not to write to a folder: its process is gone, or the lease is of another folder."""
    if not _same_machine(owner):
        return False
    now = started(owner.process)
    return now is None or owner.place != place(folder) or bool(now and owner.started and now != owner.started)


def place(folder: Path) -> str:
    """What tells a folder from its copies, on one machine."""
    status = folder.stat()
    return f"{status.st_dev}:{status.st_ino}"


def machine() -> str:
    """What tells this kernel and process namespace from every other; empty where that is not known.

    A host's name does not: on some platforms every container has the same.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115  no path, but `pid:[4026531836]`
    except (OSError, ValueError):
        return ""


def started(process: int) -> str | None:
    """When a process started, in clock ticks since boot; None if there is none, empty where that is not known."""
    try:
        text = Path(f"/proc/{process}/stat").read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else ""
    except OSError:
        return ""
    state, *_, ticks = text.rpartition(")")[2].split()[:20]
    return None if state in ("Z", "X") else ticks


def on_object_storage(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Whether a folder lies on a mount of object storage, by the type of its file system."""
    try:
        lines = [line.split(" ") for line in mounts.read_text("utf-8", errors="replace").splitlines()]
    except OSError:
        return False
    home = folder.resolve()
    places = [(Path(point), kind) for _, point, kind, *_ in lines if home.is_relative_to(point)]
    return bool(places) and bool(OBJECT_STORAGE.fullmatch(max(places, key=lambda found: len(found[0].parts))[1]))


def _same_machine(owner: Owner) -> bool:
    return bool(owner.machine) and owner.machine == machine()


def _owner(file: Path) -> Owner | None:
    try:
        document = read_document(file)
    except NotOurs:
        return None
    match document:
        case {
            "schema": "vlcheck.lease/1", "name": str(name), "machine": str(host), "process": int(process),
            "started": str(begun), "place": str(inode), "renewals": int(renewals), "released": bool(released),
        } if 0 <= process < 2**31:  # fmt: skip
            return Owner(name, host, process, begun, inode, renewals, released)
    return None


def _text(owner: Owner) -> bytes:
    return json.dumps({"schema": SCHEMA, **asdict(owner)}).ljust(_WIDTH - 1).encode() + b"\n"


def _file(folder: Path, number: int) -> Path:
    return folder / f".vlcheck-lease-{number}"


def _numbers(folder: Path) -> list[int]:
    found: Iterator[re.Match[str] | None] = (_NAME.fullmatch(entry.name) for entry in os.scandir(folder))
    return sorted(int(match[1]) for match in found if match)


def _renewed(seen: tuple[int, Owner | None], number: int, owner: Owner) -> bool:
    return seen[0] == number and seen[1] is not None and seen[1] != owner


def _told(owner: Owner | None) -> str:
    if owner is None:
        return "another process"
    here = f"process {owner.process}" if _same_machine(owner) else f"process {owner.process} of another machine"
    return f"another run ({here})"
