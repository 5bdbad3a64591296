"""The rows of an ms-swift run, named as `HF::name:subset#1000`."""

from __future__ import annotations

from vlcheck.config.foreign.draft import Draft
from vlcheck.config.foreign.rows import Rows, counted, held_back, put_rows, source
from vlcheck.config.reading.quoting import quoted


def settle_data(draft: Draft) -> None:
    """Find the rows of `dataset`; those of ModelScope are not asked for."""
    held_back(draft, "split_dataset_ratio")
    if draft.value("val_dataset"):
        draft.doubt("val_dataset", "data", message="is other data than dataset, and was not read")
    names = draft.value("dataset")
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not names:
        draft.refuse("dataset", f"dataset is {quoted(names)}; allowed: one data set or more, by name or path")
    else:
        put_rows(draft, [rows for name in names if (rows := _named(draft, str(name))) is not None], "dataset")


def _named(draft: Draft, written: str) -> Rows | None:
    """The rows behind a name; None, and a doubt, where they are on ModelScope."""
    name, subset, count = counted(written.removeprefix("HF::"))
    if not name:
        draft.doubt("dataset", "data")
        return None
    if source(draft, name)[0] == "dataset":
        if not (draft.on("use_hf") or written.startswith("HF::")):
            draft.doubt("dataset", "data", message=f"{name} is looked for on ModelScope, which vlcheck does not ask")
            return None
        if subset:
            draft.doubt("dataset", "data", message=f"subset {quoted(subset)} of {name} was not told from the others")
    return Rows(name, "dataset", samples=count or None)
