"""The run's data as a stream of rows, from wherever `data.path` or `data.dataset` points."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from vlcheck.data.sources import folders, generated, hub, tables
from vlcheck.data.sources.row import NoSuchSplit, Row, RowProblem, capped
from vlcheck.finding import NotApplicable, Unavailable
from vlcheck.spec import Data, Source

__all__ = ["NoSuchSplit", "Row", "RowProblem", "count_pictures", "read_rows", "splits"]

TABLES = ("metadata.jsonl", "metadata.csv", "labels.csv", "labels.jsonl")
"""Files of a folder that say which image has which answer."""

COUNTED = 5_000
"""Rows of a split whose images are counted one by one, where the lines of a file tell how many there are."""

SPLIT_NAMES = frozenset(
    ("train", "training", "trainval", "val", "valid", "validation", "dev", "eval", "evaluation", "test", "testing")
)
"""Names of folders and files that hold splits; a folder of this name is no class."""


def splits(data: Data) -> tuple[str, ...]:
    """The splits that the run uses: the one it trains on, then the one it evaluates on."""
    return (data.train_split,) if data.eval_split in (None, data.train_split) else (data.train_split, data.eval_split)


def read_rows(data: Data, split: str, *, offline: bool = False) -> Iterator[Row | RowProblem]:
    """Yield the rows of a split that the run uses, in the data's own order, and what is wrong with others.

    Nothing is decoded and nothing but a folder's listing is held. `train_samples` and `eval_samples` cut the stream of
    the first data set, broken rows counted; the training rows of `data.more` follow, each called by its own data set. A
    row that cannot be trained is a `RowProblem`, never an exception.

    Args:
        split: one of `splits(data)`.
        offline: read a Hub data set from the cache of `datasets` only.

    Raises:
        NoSuchSplit: if the data has no such split; for one file, only after its last line.
        NotApplicable: if the run names no data.
        Unavailable: if the data cannot be had here; the exception says what would change that.
    """
    rows = _first(data, split, offline=offline)
    return _with_more(data, rows, offline=offline) if data.more and split == data.train_split else rows


def _with_more(data: Data, first: Iterator[Row | RowProblem], *, offline: bool) -> Iterator[Row | RowProblem]:
    """Rows of the first data set, then those of each other, called by the data set that they are of."""
    sources = [(Source(dataset=data.dataset, path=data.path), first)]
    for source in data.more:
        own = replace(data, dataset=source.dataset, path=source.path, train_split=source.split, eval_split=None,
                      train_samples=source.samples, more=())  # fmt: skip
        sources.append((source, _first(own, source.split, offline=offline)))
    files = [Path(source.path).name for source, _ in sources if source.path is not None]
    for source, rows in sources:
        path = None if source.path is None else Path(source.path)
        alike = path is not None and files.count(path.name) > 1
        title = f"{source.dataset}: " if path is None else f"{path.parent.name}/" if alike else ""
        for row in rows:
            yield _called(row, f"{title}{row.name}", data.train_split)


def _called(row: Row | RowProblem, name: str, split: str) -> Row | RowProblem:
    if isinstance(row, RowProblem):
        return replace(row, name=name, split=split)
    return replace(row, split=split, conversation=replace(row.conversation, name=name))


def _first(data: Data, split: str, *, offline: bool) -> Iterator[Row | RowProblem]:
    most = _most(data, split)
    if data.generated is not None:
        return capped(generated.draw_rows(data, split), most)
    if data.dataset is not None:
        return capped(hub.read_examples(data.dataset, data, split, offline=offline), most)
    if data.path is None:
        raise NotApplicable("the run names no data: none of data.path, data.dataset and data.generated is set")
    try:
        return capped(_local(Path(data.path), data, split, offline=offline), most)
    except OSError as error:
        raise Unavailable(f"data.path {data.path} cannot be read: {error.strerror or error}") from error


def count_pictures(data: Data) -> int | None:
    """How many images the run's rows name; None where that cannot be told without reading the images.

    Of a file with more than `COUNTED` rows of a split, by its first rows and its lines.
    """
    if data.path is None or data.more or _holds_bytes(Path(data.path)):
        return None
    count = 0
    for split in splits(data):
        with contextlib.suppress(NoSuchSplit):
            rows = read_rows(data, split)
            first = list(itertools.islice(rows, COUNTED))
            named = sum(len(row.pictures) for row in first)
            if len(first) == COUNTED and (there := _rows_in_lines(Path(data.path), first[-1])):
                count += named * min(there, _most(data, split) or there) // COUNTED
            else:
                count += named + sum(len(row.pictures) for row in rows)
    return count


def _most(data: Data, split: str) -> int | None:
    return data.train_samples if split == data.train_split else data.eval_samples


def _rows_in_lines(path: Path, last: Row | RowProblem) -> int:
    """About how many rows of a split a file of lines holds, if this is number `COUNTED`; 0 if it is no such file's."""
    name, _, number = last.name.rpartition(":")
    file = (path if path.is_dir() else path.parent) / name
    if not (number.isdecimal() and file.suffix in tables.LINED and file.is_file()):
        return 0
    with file.open("rb") as opened:
        lines = sum(piece.count(b"\n") for piece in iter(lambda: opened.read(2**20), b""))
    return max(COUNTED, COUNTED * lines // int(number))


def _local(path: Path, data: Data, split: str, *, offline: bool) -> Iterator[Row | RowProblem]:
    if not path.exists():
        raise Unavailable(f"data.path {path} does not exist", "put the data there")
    return (_folder if path.is_dir() else _file)(path, data, split, offline=offline)


def _file(path: Path, data: Data, split: str, *, offline: bool) -> Iterator[Row | RowProblem]:
    if path.suffix in tables.SUFFIXES:
        return tables.read_table(path, data, split, whole=False, root=path.parent)
    if path.suffix in hub.SUFFIXES:
        return hub.read_examples(path, data, split, offline=offline)
    known = ", ".join((*tables.SUFFIXES, *hub.SUFFIXES))
    raise Unavailable(f"data.path {path}: what the file holds cannot be told; allowed: a folder, or {known}")


def _folder(path: Path, data: Data, split: str, *, offline: bool) -> Iterator[Row | RowProblem]:
    if file := _named(path, tuple(f"{split}{suffix}" for suffix in tables.SUFFIXES)):
        return tables.read_table(file, data, split, whole=True, root=path)
    if file := _named(path, TABLES):
        return tables.read_table(file, data, split, whole=False, root=path)
    if _holds_bytes(path):
        return hub.read_examples(path, data, split, offline=offline)
    stems = {file.stem for file in path.iterdir() if file.suffix in tables.SUFFIXES}
    if listed := sorted(stems & {*SPLIT_NAMES, *splits(data)}):
        raise NoSuchSplit(split, tuple(listed))
    inside = path / split
    if inside.is_dir():
        described = _named(inside, TABLES)
        if described:
            return tables.read_table(described, data, split, whole=True, root=path)
        return folders.read_folder(inside, data, split, root=path)
    beside = tuple(sorted(entry.name for entry in path.iterdir() if entry.name in SPLIT_NAMES and entry.is_dir()))
    if split != data.train_split or beside:
        raise NoSuchSplit(split, beside or (data.train_split,))
    return folders.read_folder(path, data, split, root=path)


def _named(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).exists()), None)


def _holds_bytes(path: Path) -> bool:
    """Whether it is read by `datasets`: parquet or arrow files, laid out as on the Hub, or saved by it."""
    if not path.is_dir():
        return path.suffix in hub.SUFFIXES
    if _named(path, ("dataset_dict.json", "state.json")):
        return True
    return any(next(path.glob(f"{where}*{suffix}"), None) for where in ("", "data/") for suffix in hub.SUFFIXES)
