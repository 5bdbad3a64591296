"""The folder of a merge: nothing is in it, or all of it is.

Everything is written into a hidden folder beside the output, under a lease and behind an opening that names the files;
one rename makes it the output. What a killed merge leaves is hidden, lacks config.json until the weights are verified,
and is removed by the next merge to the same place, file by file, where it holds nothing else.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from vlcheck.gpus import show_gib
from vlcheck.spec import ConfigError, Location, Problem
from vlcheck.training.checkpoint import sync
from vlcheck.training.lease import Lease
from vlcheck.training.manifest import OPENING, NotOurs, opening_text, read_document, read_opening

REPORT, SCHEMA = "vlcheck-merge.json", "vlcheck.merge/1"
SPARE_BYTES = 64 * 2**20
"""Room on the disk beside what is written."""
_LEASE = re.compile(r"\.vlcheck-lease-[0-9]{1,15}")


class MergeFailed(Exception):
    """A merge was given up, and nothing of it is left; the message says why."""


def check_output(out: Path) -> None:
    """Make sure, before any work, that a merge may be written to a folder.

    Raises:
        ConfigError: if something is there already.
    """
    if os.path.lexists(out) and (out.is_symlink() or not out.is_dir()):
        raise _refusal(out, "is there and is no folder; name another with --out")
    if out.is_dir() and (names := sorted(entry.name for entry in os.scandir(out))):
        raise _refusal(
            out, f"is not empty, it holds {names[0]!r}; a merge writes over nothing: name another with --out"
        )


def check_room(out: Path, bytes_needed: int) -> None:
    """Make sure, before anything is written, that the disk holds a merge.

    Raises:
        ConfigError: if it is too small.
    """
    existing = next(place for place in (out, *out.absolute().parents) if place.is_dir())
    if (free := shutil.disk_usage(existing).free) < bytes_needed + SPARE_BYTES:
        needed = show_gib(bytes_needed + SPARE_BYTES)
        raise _refusal(out, f"has too small a disk: {show_gib(free)} free, and the merged model takes {needed}")


def draft_of(out: Path) -> Path:
    """Where a merge is written until it is whole."""
    return out.absolute().parent / f".{out.name}.vlcheck-merge"


@contextlib.contextmanager
def drafted(out: Path, names: Collection[str], say: Callable[[str], None] = lambda line: None) -> Iterator[Path]:
    """A folder to write a merge into; left without an exception, it becomes `out`, else it is removed.

    Args:
        out: as `check_output` allows it.
        names: every file that will be written, but for the report.
        say: told that another's lease is waited for.

    Raises:
        ConfigError: if things that no merge of vlcheck's wrote lie where the draft would.
        FolderTaken: if another process merges into the same folder.
        MergeFailed: if the disk refuses.
    """
    draft, own = draft_of(out), {*names, REPORT, OPENING}
    known = _leftover(draft) | own
    try:
        with Lease(draft, say) as lease:
            _sweep(draft, known, but=(newest_lease(draft),))
            try:
                (draft / OPENING).write_text(opening_text([*names, REPORT]), encoding="utf-8")
                yield draft
                lease.check()
                (draft / OPENING).unlink()
                sync(draft)
                os.rename(draft, out)  # noqa: PTH104  Path.rename says nothing of an empty folder in the way
            except BaseException:
                _sweep(draft, own)
                draft.rmdir()
                raise
        _sweep(out, ())
        sync(out.absolute().parent)
    except OSError as refused:
        raise MergeFailed(f"{out}: nothing was written: {refused.strerror or refused}") from refused


def newest_lease(folder: Path) -> str:
    """Name of the lease that was taken last."""
    held = [entry.name for entry in os.scandir(folder) if _LEASE.fullmatch(entry.name)]
    return max(held, key=lambda name: int(name.rpartition("-")[2]), default="")


def _leftover(draft: Path) -> set[str]:
    """Files that an earlier merge left in the draft's place.

    Raises:
        ConfigError: if anything else lies there.
    """
    if not os.path.lexists(draft):
        return set()
    if draft.is_symlink() or not draft.is_dir():
        raise _refusal(draft, "stands where the merge would be written; move it away")
    known = set(read_opening(draft) or ()) | {OPENING}
    with contextlib.suppress(NotOurs):
        report = read_document(draft / REPORT) or {}
        if report.get("schema") == SCHEMA and isinstance(report.get("files"), dict):
            known |= {str(name) for name in report["files"]} | {REPORT}
    strange = [e.name for e in os.scandir(draft) if e.name not in known and not _LEASE.fullmatch(e.name)]
    if strange:
        raise _refusal(draft, f"holds {sorted(strange)[0]!r}, which no merge of vlcheck's wrote; move it away")
    return known


def _sweep(folder: Path, names: Collection[str], but: Collection[str] = ()) -> None:
    """Remove files of these names, and leases."""
    for entry in list(os.scandir(folder)):
        ours = entry.name in names or _LEASE.fullmatch(entry.name)
        if ours and entry.name not in but and entry.is_file(follow_symlinks=False):
            (folder / entry.name).unlink()


def _refusal(place: Path, fault: str) -> ConfigError:
    return ConfigError(Problem(Location(str(place)), fault))
