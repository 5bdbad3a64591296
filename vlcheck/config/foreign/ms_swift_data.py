"""The rows of an ms-swift run, named as `HF::name:subset#1000`."""

from __future__ import annotations

from vlcheck.config.foreign.draft import Draft
from vlcheck.config.foreign.rows import counted, held_back, put_source, several
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
    elif len(names) > 1:
        several(draft, "dataset")
    else:
        name, subset, count = counted(str(names[0]).removeprefix("HF::"))
        put_source(draft, name, "dataset")
        if "data.dataset" in draft.sources and not (draft.on("use_hf") or str(names[0]).startswith("HF::")):
            del draft.document["data"]["dataset"], draft.sources["data.dataset"]
            draft.doubt("dataset", "data", message=f"{name} is looked for on ModelScope, which vlcheck does not ask")
        elif subset:
            draft.doubt("dataset", "data", message=f"subset {quoted(subset)} of {name} was not told from the others")
        if count:
            draft.put("data.train_samples", count, "dataset")
