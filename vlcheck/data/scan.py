"""One pass over the run's data: every image decoded in full, every row's answer read, little kept of either."""

from __future__ import annotations

import itertools
import os
import re
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from vlcheck.data.answers import Answers, Hints
from vlcheck.data.columns import PictureColumns, RowColumns
from vlcheck.data.conversation import Picture
from vlcheck.data.images import BadPicture, decode
from vlcheck.data.perceptual_hash import Fingerprint, fingerprint
from vlcheck.data.progress import TELL_SECONDS, step
from vlcheck.data.read import NoSuchSplit, Row, RowProblem, count_pictures, read_rows, splits
from vlcheck.data.sources.images import SUFFIXES
from vlcheck.spec import Data

WORKERS = max(2, min(8, os.cpu_count() or 2))
"""Threads: Pillow and hashlib let the others run while they work."""
AHEAD = 4 * WORKERS
"""Images that wait for a worker; what bounds the memory that undecoded bytes take."""
DECODED = 20_000
"""Images that are decoded at most where their number is known, evenly spread over the data."""
STRIDE = 20
"""Where it is not known, one of so many is decoded behind the first `DECODED`."""
GOLDEN = 0.618033988749895
NAMED = 20
"""Names kept of what may be a million."""


@dataclass(frozen=True)
class ImageFormat:
    """How an image is stored."""

    format: str
    suffix: str
    """What its name says, in lower case; empty where it is none of an image's."""
    mode: str
    transparent: bool
    orientation: int


@dataclass
class Tally:
    """How many there are, and the first of them by name."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.first) < NAMED:
            self.first.append(name)


@dataclass
class SplitCount:
    """What one split holds."""

    rows: int = 0
    problems: int = 0
    pictures: int = 0
    without: int = 0
    """Rows that hold no image."""
    missing: str = ""
    """Why there is no such split."""


@dataclass
class Scan:
    """What one pass over the data established; filled by `scan_data`, then only read."""

    splits: Mapping[str, SplitCount]
    bad_rows: Tally = field(default_factory=Tally)
    unreadable: Tally = field(default_factory=Tally)
    outside: Tally = field(default_factory=Tally)
    """Images that lie outside the folder of the data."""
    unread: dict[str, Tally] = field(default_factory=dict)
    """Columns that look like images and were not read, in rows that hold none."""
    bare: Tally = field(default_factory=Tally)
    """Rows that hold one image where a list is meant."""
    null: Tally = field(default_factory=Tally)
    """Rows without an image whose `image` is null."""
    foreign: Tally = field(default_factory=Tally)
    """Rows in the format of LLaVA and ShareGPT: `conversations` of from and value."""
    unplaced: dict[str, Tally] = field(default_factory=dict)
    """Rows with images that no placeholder asks for, by what their user turns are: text, or parts."""
    passed_over: int = 0
    """Images that were not opened: of very many, a sample is decoded."""
    kinds: dict[ImageFormat, Tally] = field(default_factory=dict)
    rows: RowColumns = field(default_factory=RowColumns)
    pictures: PictureColumns = field(default_factory=PictureColumns)
    answers: Answers = field(default_factory=Answers)
    hints: Hints = field(default_factory=Hints)

    @property
    def looked_at(self) -> int:
        """Images that were opened, readable or not."""
        return len(self.pictures) + self.unreadable.count

    def title(self, picture: int) -> str:
        """What messages call an image."""
        return self.pictures.title(picture, self.rows)


@dataclass(frozen=True)
class _Look:
    kind: ImageFormat
    size: tuple[int, int]
    seen: Fingerprint


def scan_data(data: Data, *, offline: bool = False, progress: Callable[[str], None] = lambda step: None) -> Scan:
    """Read every row of the splits that the run uses, and decode every image of theirs, or a sample of very many.

    Threads decode while the next rows are read. What is kept grows by about 140 bytes a row (see
    `columns`) and by nothing else; at most `WORKERS` images are decoded at a time.

    Args:
        progress: told how many images were looked at, of how many where that is known, and how many a second.

    Raises:
        Unavailable, NotApplicable: as `read_rows`.
    """
    scan = Scan({split: SplitCount() for split in splits(data)})
    root = _root(data)
    total = count_pictures(data)
    started, shown = time.monotonic(), 0.0
    pool = ThreadPoolExecutor(WORKERS, "scan")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's; what is wrong with an image is said by the rules
            for row, picture, look in _looked_at(scan, data, pool, offline, total):
                _note(scan, row, picture, look, root)
                now = time.monotonic() - started
                if now - shown > TELL_SECONDS:
                    shown = now
                    progress(step("Scanning images", scan.looked_at + scan.passed_over, total, now))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return scan


def is_decoded(number: int, total: int | None) -> bool:
    """Whether the image of this number, counted from 0, is one of the sample.

    Multiples of the golden ratio spread evenly and keep step with no pattern of the data, such as labels in turn. A
    total that proves too low is outgrown by the number, so that few more are decoded.
    """
    if total is None and number < DECODED:
        return True
    share = 1 / STRIDE if total is None else DECODED / max(1, total, number)
    return number * GOLDEN % 1 < share


def _looked_at(
    scan: Scan, data: Data, pool: ThreadPoolExecutor, offline: bool, total: int | None
) -> Iterator[tuple[int, Picture, _Look | str]]:
    """Each image with its row's index, in the data's order; a window of them is under way."""
    window: deque[tuple[int, Picture, Future[_Look | str]]] = deque()
    seen = itertools.count()
    for number, (split, count) in enumerate(scan.splits.items()):
        for row in _rows(data, split, count, offline):
            index = len(scan.rows)
            _read(scan, row, number, count, data)
            for picture in row.pictures:
                if not is_decoded(next(seen), total):
                    scan.passed_over += 1
                    continue
                window.append((index, picture, pool.submit(_look, picture)))
                if len(window) > AHEAD:
                    first, shown, looking = window.popleft()
                    yield first, shown, looking.result()
    for first, shown, looking in window:
        yield first, shown, looking.result()


def _rows(data: Data, split: str, count: SplitCount, offline: bool) -> Iterator[Row | RowProblem]:
    try:
        yield from read_rows(data, split, offline=offline)
    except NoSuchSplit as missing:
        count.missing = str(missing)


def _read(scan: Scan, row: Row | RowProblem, split: int, count: SplitCount, data: Data) -> None:
    """Note what a row says, before its images are looked at."""
    count.pictures += len(row.pictures)
    if isinstance(row, RowProblem):
        count.problems += 1
        scan.bad_rows.add(str(row))
        scan.rows.append(row.name, split, "", "")
        return
    count.rows += 1
    _note_form(scan, row, count)
    single = len(row.conversation.answers) == 1
    scan.rows.append(row.name, split, row.prompt, row.answer if single else "")
    index = len(scan.rows) - 1
    if single:
        scan.answers.add(row.answer, split, index)
        if row.prompt != data.instruction:
            scan.hints.add(row, index)


def _note_form(scan: Scan, row: Row, count: SplitCount) -> None:
    form = row.form
    if not row.pictures:
        count.without += 1
        for column in form.unread:
            scan.unread.setdefault(column, Tally()).add(row.name)
        if form.null:
            scan.null.add(row.name)
    if form.bare:
        scan.bare.add(row.name)
    if form.shape == "conversations":
        scan.foreign.add(row.name)
    if form.unplaced:
        scan.unplaced.setdefault(form.unplaced, Tally()).add(row.name)


def _look(picture: Picture) -> _Look | str:
    """Decode an image; a string says why it cannot be."""
    try:
        decoded = decode(picture)
    except BadPicture as bad:
        return str(bad).removeprefix(f"{picture}: ")
    named = re.search(r"\.\w{1,5}(?=\)?$)", str(picture))
    suffix = named[0].lower() if named and named[0].lower() in SUFFIXES else ""
    kind = ImageFormat(decoded.format, suffix, decoded.mode, decoded.transparent, decoded.orientation)
    return _Look(kind, decoded.size, fingerprint(decoded.image))


def _note(scan: Scan, row: int, picture: Picture, look: _Look | str, root: str | None) -> None:
    name = scan.rows.names[row]
    title = str(picture) if str(picture).startswith(name) else f"{name} ({picture})"
    if root is not None and isinstance(picture.source, Path) and not _inside(picture.source, root):
        scan.outside.add(title)
    if isinstance(look, str):
        scan.unreadable.add(f"{title}: {look}")
        return
    scan.kinds.setdefault(look.kind, Tally()).add(title)
    scan.pictures.append(row, "" if title == name else title, look.size, look.seen)


def _root(data: Data) -> str | None:
    """The folder that holds all images of rows that lie in one; None where the rows lie in several places."""
    if data.path is None or data.more:
        return None
    path = os.path.abspath(data.path)  # noqa: PTH100  a link stays the name it has
    return path if Path(path).is_dir() else str(Path(path).parent)


def _inside(path: Path, root: str) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(root)  # noqa: PTH100
