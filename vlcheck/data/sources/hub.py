"""Data sets of the Hub, and parquet or arrow files, through `datasets`: streamed, undecoded, without remote code."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vlcheck.data.sources.listing import check_saved, files_by_split
from vlcheck.data.sources.row import NoSuchSplit, Row, RowProblem
from vlcheck.data.sources.tables import read_row
from vlcheck.finding import Unavailable
from vlcheck.model.hub import hub_answers
from vlcheck.spec import Data

SUFFIXES = (".parquet", ".arrow")
"""Files that are read here."""


def read_examples(source: str | Path, data: Data, split: str, *, offline: bool) -> Iterator[Row | RowProblem]:
    """Yield the rows of one split.

    Args:
        source: a Hub id, a folder with parquet or arrow files, or one such file.

    Raises:
        NoSuchSplit: if the data has none of this name.
        Unavailable: if the data cannot be had here.
    """
    examples = _undecoded(_loaded(source, data, split, offline=offline))
    names = {column: feature.names for column, feature in (examples.features or {}).items() if _is_class(feature)}
    folder = source.parent if isinstance(source, Path) and source.is_file() else None
    number, found = 0, iter(examples)
    while True:
        name = f"{split}[{number}]"
        try:
            values = next(found)
        except StopIteration:
            return
        except Exception as error:  # pyarrow's errors, the network's, a parquet file cut short
            told = f"{type(error).__name__}: {str(error)[:200]}"
            if isinstance(source, str):
                raise Unavailable(f"the data set {source} stopped coming at {name}: {told}", "try again") from error
            yield RowProblem(name, split, f"reading stops here: {told}")
            return
        yield read_row(_named(values, names), data, split=split, name=name, folder=folder)
        number += 1


def _loaded(source: str | Path, data: Data, split: str, *, offline: bool) -> Any:
    try:
        if isinstance(source, str):
            return _from_hub(source, split, offline=offline)
        return _from_disk(source, data, split)
    except (NoSuchSplit, Unavailable):
        raise
    except Exception as error:  # of many libraries: fsspec, pyarrow, huggingface_hub, datasets
        if str(error).startswith(("Bad split", "Unknown split")):
            raise NoSuchSplit(split, _splits(source)) from error
        told = f"{type(error).__name__}: {str(error)[:200]}"
        raise Unavailable(f"the data set {source} cannot be read: {told}") from error


def _from_disk(source: Path, data: Data, split: str) -> Any:
    import datasets

    if not source.is_file():
        check_saved(source)
    if (source / "dataset_dict.json").exists():
        saved = datasets.load_from_disk(str(source))
        if split not in saved:
            raise NoSuchSplit(split, tuple(saved))
        return saved[split]
    single = source.is_file() or (source / "state.json").exists()
    if single and split != data.train_split:
        raise NoSuchSplit(split, (data.train_split,))
    if source.is_file():
        kind = source.suffix.removeprefix(".")
        return datasets.load_dataset(kind, data_files={split: str(source)}, split=split, streaming=True)
    if single:
        return datasets.load_from_disk(str(source))
    found = files_by_split(source, SUFFIXES)
    if split not in found:
        raise NoSuchSplit(split, tuple(sorted(found)))
    kinds = {file.suffix.removeprefix(".") for file in found[split]}
    if len(kinds) > 1:
        raise Unavailable(f"split {split!r} of {source} has parquet and arrow files; allowed: files of one kind")
    files = [str(file) for file in found[split]]
    return datasets.load_dataset(kinds.pop(), data_files={split: files}, split=split, streaming=True)


def _from_hub(name: str, split: str, *, offline: bool) -> Any:
    """Read what an earlier `load_dataset` left in the cache, or stream from the Hub."""
    if offline and not _may_be_cached(name):
        raise _not_cached(name, offline=offline)
    import datasets

    try:
        with _no_network():
            return datasets.load_dataset(name, split=split)
    except (ConnectionError, FileNotFoundError) as missing:
        if not offline and hub_answers():
            return datasets.load_dataset(name, split=split, streaming=True)
        raise _not_cached(name, offline=offline) from missing


def _not_cached(name: str, *, offline: bool) -> Unavailable:
    why = "the Hub was not asked" if offline else "the Hub was not reached"
    return Unavailable(
        f"the data set {name} is not in the cache of `datasets`, and {why}",
        f"run with --stream where the Hub is reached, or load it there once: datasets.load_dataset({name!r})",
    )


def _may_be_cached(name: str) -> bool:
    """Whether a cache holds anything of the owner's; importing `datasets` to ask takes a tenth of an audit.

    Where it does, `datasets` itself says what is there. A name without an owner may be many things to it.
    """
    from huggingface_hub.constants import HF_HOME, HF_HUB_CACHE

    owner, slash, _ = name.lower().partition("/")
    if not slash or Path(name).exists() or "datasets" in sys.modules:
        return True
    prepared = Path(os.environ.get("HF_DATASETS_CACHE") or Path(HF_HOME) / "datasets").expanduser()
    folders = [folder for folder in (prepared, Path(HF_HUB_CACHE)) if folder.is_dir()]
    held = [each.name.lower() for folder in folders for each in folder.iterdir()]
    return any(each.startswith((f"{owner}___", f"datasets--{owner}--")) for each in held)


@contextlib.contextmanager
def _no_network() -> Iterator[None]:
    """Have `datasets` look in its cache only; it has no argument that keeps it from asking the Hub (5.2.0)."""
    import datasets.config
    import huggingface_hub.constants

    switches: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [module.HF_HUB_OFFLINE for module in switches]
    for module in switches:
        module.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for module, setting in zip(switches, before, strict=True):
            module.HF_HUB_OFFLINE = setting


def _undecoded(examples: Any) -> Any:
    """The same examples with images as bytes: decoding is ours to do, and to survive."""
    for column, feature in (examples.features or {}).items():
        changed = _bytes_instead(feature)
        if changed is not feature:
            examples = examples.cast_column(column, changed)
    return examples


def _bytes_instead(feature: Any) -> Any:
    from datasets import Image, List

    if isinstance(feature, Image):
        return Image(mode=feature.mode, decode=False)
    if isinstance(feature, List) and (inner := _bytes_instead(feature.feature)) is not feature.feature:
        return List(inner, length=feature.length)
    if isinstance(feature, dict):
        inside = {key: _bytes_instead(value) for key, value in feature.items()}
        return inside if any(inside[key] is not feature[key] for key in inside) else feature
    return feature


def _is_class(feature: Any) -> bool:
    from datasets import ClassLabel

    return isinstance(feature, ClassLabel)


def _named(values: Mapping[str, Any], names: Mapping[str, list[str]]) -> dict[str, Any]:
    """The example with the names of its classes, as a collator would have to write them."""
    return {
        column: names[column][value] if column in names and isinstance(value, int) and value >= 0 else value
        for column, value in values.items()
    }


def _splits(source: str | Path) -> tuple[str, ...]:
    import datasets

    if isinstance(source, Path):
        return tuple(sorted(files_by_split(source, SUFFIXES))) if source.is_dir() else ()
    with contextlib.suppress(Exception):
        return tuple(datasets.get_dataset_split_names(str(source)))
    return ()
