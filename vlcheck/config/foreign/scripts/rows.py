"""The rows and the collator of a script's run, as far as its text names them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from vlcheck.config.foreign.draft import Draft
from vlcheck.config.foreign.rows import exists, put_source
from vlcheck.config.foreign.scripts.tables import COLLATOR
from vlcheck.config.reading.quoting import quoted
from vlcheck.finding import Json
from vlcheck.spec import Framework

_BUILDERS = ("json", "imagefolder", "csv", "parquet", "arrow", "webdataset", "text")
_SLICED = re.compile(r"(?P<name>[\w.]+)(?:\[:(?P<count>\d+)\]|(?P<more>\[.*\]|\+.*))?")
_OWN_COLLATORS = {
    "trl": ("trl.DataCollatorForVisionLanguageModeling",),
    "unsloth": ("unsloth.UnslothVisionDataCollator", "unsloth_zoo.UnslothVisionDataCollator"),
}


def settle_rows(draft: Draft, typed: frozenset[str]) -> None:
    """Where the rows lie, unless the script makes others of them; then what makes them, and that it was not run."""
    changed, source = draft.value("rows.changed"), _source(draft, "load_dataset")
    if draft.value("rows.held_back"):
        draft.assumed.append("train_test_split holds back a share of the training rows; all were taken for training")
    if {"data.path", "data.dataset"} & typed or source is None:
        return
    if changed is not None:
        message = (
            f"the rows of {quoted(source)} go through {changed}, which was not run, so none was read; {_reads(source)}"
        )
        draft.doubt("rows.changed", "data", "labels", "memory", message=message)
        return
    collator = draft.value("data_collator")
    if isinstance(collator, dict) and "own" in collator:
        message = (
            f"the rows of {quoted(source)} are read by the script's own collator, so none was read; {_reads(source)}"
        )
        draft.doubt("load_dataset.path", "data", "labels", "memory", message=message)
        return
    if not _put(draft, source):
        return
    _splits(draft, source)
    for key, field in (("rows.samples", "train_samples"), ("rows.eval_samples", "eval_samples")):
        if isinstance(draft.value(key), int):
            draft.put(f"data.{field}", draft.value(key), key)


def _reads(source: str) -> str:
    field = "path" if source.startswith((".", "/", "~")) or "." in Path(source).name else "dataset"
    return f"--set data.{field}={source} reads them as they lie"


def _source(draft: Draft, section: str) -> str | None:
    """The name of what is loaded: a file, a folder or a data set of the Hub."""
    path = draft.value(f"{section}.path")
    if path not in _BUILDERS:
        return path if isinstance(path, str) else None
    for name in ("data_files", "data_dir"):
        held: Any = draft.value(f"{section}.{name}")
        if isinstance(held, dict):
            split = draft.value(f"{section}.split") or "train"
            held = held.get(str(split), next(iter(held.values()), None))
        if isinstance(held, list):
            held = held[0] if len(held) == 1 else None
        if isinstance(held, str):
            return held
    return None


def _put(draft: Draft, source: str) -> bool:
    key = "load_dataset.path"
    local = draft.value(key) in _BUILDERS or source.startswith((".", "/", "~"))
    if local:
        key = next((f"load_dataset.{n}" for n in ("data_files", "data_dir") if draft.value(f"load_dataset.{n}")), key)
        if not any(exists(folder / source) for folder in (draft.folder, Path())):
            message = f"{quoted(source)} is not here, so no row of it was read"
            draft.doubt(key, "data", "labels", "memory", message=message)
            return False
    put_source(draft, source, key)
    config = draft.value("load_dataset.name")
    if config is not None and not local:
        draft.doubt("load_dataset.name", "data")
    return True


def _splits(draft: Draft, source: str) -> None:
    split: Json = draft.value("load_dataset.split")
    if isinstance(split, str) and (found := _SLICED.fullmatch(split)):
        draft.put("data.train_split", found["name"], "load_dataset.split")
        if found["count"]:
            draft.put("data.train_samples", int(found["count"]), "load_dataset.split")
        if found["more"]:
            draft.doubt("load_dataset.split", "data", message=f"{quoted(split)} was judged as {found['name']}")
    other: Json = draft.value("eval_load_dataset.split")
    if isinstance(other, str) and _source(draft, "eval_load_dataset") == source:
        if found := _SLICED.fullmatch(other):
            draft.put("data.eval_split", found["name"], "eval_load_dataset.split")
            if found["count"]:
                draft.put("data.eval_samples", int(found["count"]), "eval_load_dataset.split")
    elif draft.value("eval_load_dataset") is not None and draft.value("rows.held_back") is None:
        draft.doubt("eval_load_dataset", "data", message="evaluation rows come from elsewhere, and none was read")


def settle_collator(draft: Draft, framework: Framework, file: str) -> None:
    """A collator of the framework with its own settings, or the script's, by its name."""
    given = draft.value("data_collator")
    if not isinstance(given, dict):
        if framework == "other":
            _unnamed(draft, "", "no collator is found", file, "")
        return
    if "own" in given:
        shown = str(given["shown"])
        _unnamed(draft, "data_collator", f"the script's own collator {shown}", file, str(given["own"]))
        return
    called = str(given.get("called"))
    if called not in _OWN_COLLATORS.get(framework, ()):
        _unnamed(draft, "data_collator", f"the collator {called}", file, "")
        return
    draft.read({**COLLATOR, "called": COLLATOR["model"]}, prefix="data_collator.")
    for key in ("max_length", "max_seq_length"):
        if isinstance(draft.value(f"data_collator.{key}"), int):
            draft.put("data.max_length", draft.value(f"data_collator.{key}"), f"data_collator.{key}")
    for key, field in (
        ("completion_only_loss", "completion_only_loss"),
        ("assistant_only_loss", "assistant_only_loss"),
        ("train_on_responses_only", "assistant_only_loss"),
    ):
        if draft.on(f"data_collator.{key}"):
            draft.put(f"training.{field}", True, f"data_collator.{key}")


def _unnamed(draft: Draft, key: str, what: str, file: str, name: str) -> None:
    """Name a collator that is not the framework's, so that nobody's labels are judged in its place."""
    draft.put("data.collator", f"{Path(file).name}:{name or 'data_collator'}", key)
