"""VLC5xx: rows that the run cannot read, or will not find."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, NotApplicable, Severity, rule

if TYPE_CHECKING:
    from vlcheck.data.scan import Scan
    from vlcheck.spec import Location, RunSpec

SHOWN = 3
"""Rows that a message names; `measured` has more of them."""


@rule("VLC518", "empty-split", Severity.ERROR, explains=("VLC516",))
def empty_split(spec: RunSpec, scan: Scan) -> Iterator[Finding | Examined]:
    """A split that the run uses holds no row.

    A misspelt split name, a filter that passes nothing, an empty file: training stops at once, or the
    evaluation reports a number over nothing.

    Remedy: name a split that the data has, in `data.train_split` or `data.eval_split`.

    Source: measured; see tests/data/test_planted_faults.py.
    """
    yield Examined(len(scan.splits), "splits")
    for split, count in scan.splits.items():
        if not count.rows and not count.problems:
            key = "data.train_split" if split == spec.data.train_split else "data.eval_split"
            yield Finding(
                f"{key} {split!r} holds 0 rows, at least 1 is needed{f': {count.missing}' if count.missing else ''}",
                where=spec.where(key),
                measured={"split": split, "rows": 0},
            )


@rule("VLC519", "unreadable-row", Severity.ERROR)
def unreadable_row(spec: RunSpec, scan: Scan) -> Iterator[Finding | Examined]:
    """Rows of the data cannot be read as an image and an answer.

    Malformed JSON, a missing column, an empty answer, an image that would have to be fetched, text that
    UTF-8 cannot hold: depending on the trainer such a row stops the run hours in, or is skipped without a
    word.

    Remedy: repair or remove the rows that are named.

    Source: measured; see tests/data/test_rows.py.
    """
    yield Examined(len(scan.rows), "rows")
    if scan.bad_rows.count:
        yield Finding(
            f"{scan.bad_rows.count:,} of {len(scan.rows):,} rows cannot be read: "
            f"{few(scan.bad_rows.first, scan.bad_rows.count)}",
            where=place(spec),
            measured={"rows": scan.bad_rows.count, "problems": list(scan.bad_rows.first)},
        )


@rule("VLC520", "outside-folder", Severity.NOTE)
def outside_folder(spec: RunSpec, scan: Scan) -> Iterator[Finding | Examined]:
    """Rows name images outside the folder of the data.

    An absolute path, or one that climbs out with `..`, is followed here as it is in training. A job that
    copies or mounts the data's folder alone does not find such an image.

    Remedy: move the images below `data.path`, and name them relative to the file that lists them.

    Source: measured; see tests/data/test_planted_faults.py.
    """
    if spec.data.path is None:
        raise NotApplicable("the data is not local")
    if spec.data.more:
        raise NotApplicable("the data lies in several places")
    yield Examined(scan.looked_at, "images")
    if scan.outside.count:
        yield Finding(
            f"{scan.outside.count:,} of {scan.looked_at:,} images lie outside {spec.data.path}: "
            f"{few(scan.outside.first, scan.outside.count)}",
            where=place(spec),
            measured={"images": scan.outside.count, "rows": list(scan.outside.first)},
        )


def place(spec: RunSpec) -> Location:
    """Where the config names the data."""
    return spec.where("data.path" if spec.data.dataset is None else "data.dataset")


def few(names: Sequence[str], count: int) -> str:
    """The first names, and how many there are beside them."""
    more = count - min(len(names), SHOWN)
    return "; ".join(names[:SHOWN]) + (f"; and {more:,} more" if more else "")
