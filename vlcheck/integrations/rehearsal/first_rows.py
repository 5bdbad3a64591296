"""The first rows of a script's data sets, read from this machine and by this process alone."""

from __future__ import annotations

import functools
from typing import Any

from torch.utils.data import DataLoader

from vlcheck.integrations.rehearsal.stage import Stage


def cut_data(stage: Stage) -> None:
    """Let each split have its first rows, and what counts on more of them take those that are there."""
    _loaders(stage)
    try:
        import datasets
    except ImportError:
        return
    for name in ("load_dataset", "load_from_disk"):
        setattr(datasets, name, _loading(stage, name, getattr(datasets, name)))
    table = datasets.Dataset
    table.map, table.filter = _alone(table.map), _alone(table.filter)
    table.select, table.train_test_split = _selecting(stage, table.select), _splitting(stage, table.train_test_split)


def _loaders(stage: Stage) -> None:
    """Workers of a loader hand tensors over through sockets, which are refused."""
    loader: Any = DataLoader
    whole = loader.__init__

    @functools.wraps(whole)
    def init(self: Any, *given: Any, **options: Any) -> None:
        if options.get("num_workers"):
            stage.replace(f"DataLoader(num_workers={options['num_workers']}): no process beside this one")
            options |= {"num_workers": 0, "prefetch_factor": None, "persistent_workers": False}
        whole(self, *given, **options)

    loader.__init__ = init


def _loading(stage: Stage, name: str, whole: Any) -> Any:
    @functools.wraps(whole)
    def load(*given: Any, **options: Any) -> Any:
        stage.mark("data")
        alone = {"num_proc": None} if name == "load_dataset" else {}
        loaded = whole(*given, **{**options, **alone})
        stage.replace(f"{name}({', '.join(map(repr, given))}): at most the first {stage.rows} rows of each split")
        if isinstance(loaded, dict):
            return type(loaded)({split: _first(rows, stage.rows) for split, rows in loaded.items()})
        if isinstance(loaded, list):
            return [_first(rows, stage.rows) for rows in loaded]
        return _first(loaded, stage.rows)

    return load


def _first(split: Any, rows: int) -> Any:
    return split.select(range(min(rows, len(split)))) if hasattr(split, "__len__") else split.take(rows)


def _alone(whole: Any) -> Any:
    @functools.wraps(whole)
    def call(self: Any, *given: Any, **options: Any) -> Any:
        return whole(self, *given, **{**options, "num_proc": None})

    return call


def _selecting(stage: Stage, whole: Any) -> Any:
    """Rows by numbers, of which the whole data set may have had more."""

    @functools.wraps(whole)
    def select(self: Any, indices: Any, *given: Any, **options: Any) -> Any:
        numbers = list(indices)
        held = [number for number in numbers if number < len(self)]
        if len(held) < len(numbers):
            stage.replace(f"Dataset.select: {len(held) or len(self)} rows in place of {len(numbers)}")
        return whole(self, held or (range(len(self)) if numbers else numbers), *given, **options)

    return select


def _splitting(stage: Stage, whole: Any) -> Any:
    """A split that would leave nothing of the first rows is halves of these."""

    @functools.wraps(whole)
    def train_test_split(self: Any, test_size: Any = None, train_size: Any = None, *given: Any, **options: Any) -> Any:
        sizes = [size for size in (test_size, train_size) if size is not None]
        most = max(size * len(self) if isinstance(size, float) else size for size in sizes) if sizes else 0
        if most > len(self) - 1:
            stage.replace(f"Dataset.train_test_split: halves in place of {' and '.join(map(str, sizes))}")
            test_size, train_size = 0.5, None
        return whole(self, test_size, train_size, *given, **options)

    return train_test_split
