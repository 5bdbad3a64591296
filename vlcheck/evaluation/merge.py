"""Merge an adapter into its base, and verify the result before anybody can see it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vlcheck.adapters.merged import Comparison, compare
from vlcheck.adapters.saved import read_adapter
from vlcheck.adapters.serving import serving_names
from vlcheck.adapters.shards import READABLE, write_shard
from vlcheck.data.atomic_write import write_whole
from vlcheck.evaluation.attach import digest
from vlcheck.evaluation.merge_folder import REPORT, SCHEMA, MergeFailed, check_output, check_room, drafted
from vlcheck.evaluation.merge_plan import MergePlan, merged_spec, plan_merge
from vlcheck.evaluation.merged_logits import Logits, asked_run, compare_logits
from vlcheck.evidence.options import ALLOW_NOTHING, Options
from vlcheck.evidence.resolve import Evidence
from vlcheck.gpus import show_gib
from vlcheck.model.base_weights import INDEX, SINGLE, weight_files
from vlcheck.model.build import check_patch
from vlcheck.spec import RunSpec
from vlcheck.training.lease import on_object_storage
from vlcheck.training.manifest import describe
from vlcheck.versions import installed

BESIDE = (".json", ".jinja", ".model", ".txt")
"""Suffixes of a base's files that are copied: settings, tokenizer, processor, chat template; never code."""
LARGEST_BESIDE_BYTES = 256 * 2**20
MOSTLY = 0.9
"""Share of a delta that has to survive rounding, or it is told."""


def merge(  # noqa: PLR0913  one parameter an option
    spec: RunSpec,
    adapter: Path,
    out: Path,
    *,
    base: Path | None = None,
    logits: bool = True,
    other_base: bool = False,
    options: Options = ALLOW_NOTHING,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[str], None] = lambda step: None,
) -> dict[str, Any]:
    """Merge a saved adapter into its base in 16 bits, shard by shard, and verify what was written.

    Host memory stays below the adapter, one piece of a tensor and the libraries; the logits need the model once.

    Args:
        adapter: folder of a saved LoRA adapter.
        out: folder of the merged model; it must not hold anything.
        base: folder of the base in 16 bits, where the config names another.
        logits: compare the logits of merged and unmerged.
        other_base: merge though the adapter names another base.
        options: what the caller allows; `rows` has no meaning here.
        say: told that another process's lease is waited for.
        progress: told what is being done.

    Returns:
        What vlcheck-merge.json in the folder holds.

    Raises:
        ConfigError: naming what speaks against the merge; nothing is written.
        Unavailable: if the base cannot be had here.
        FolderTaken: if another process merges into the same folder.
        MergeFailed: if the disk refuses, or what was written is not base plus adapter; nothing is left.
    """
    check_output(out)
    plan, evidence = _planned(spec, adapter, base, other_base, options, progress)
    beside = list(_beside(plan))
    run = asked_run(plan, evidence) if logits else None
    check_room(out, plan.bytes + sum(file.stat().st_size for file in beside))
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    weights = [file.name for file in plan.files]
    with drafted(out, [*weights, *(file.name for file in beside)], say) as draft:
        tell = _counter(progress, "writing", plan.bytes)
        digests = {file.name: write_shard(file, draft / file.name, plan.changes, tell) for file in plan.files}
        comparison = compare(
            plan.files, [draft / name for name in weights], plan.changes, _counter(progress, "comparing", plan.bytes)
        )
        if comparison.faults:
            raise MergeFailed(f"{out}: what was written is not base plus adapter: {'; '.join(comparison.faults)}")
        for file in beside:  # behind the weights: a folder without config.json is no model to anybody
            _copy(file, draft / file.name)
        found = compare_logits(plan, draft, run, progress) if run is not None else None
        if found is not None and not found.right and not plan.outside:
            raise MergeFailed(f"{out}: merged and unmerged differ: {_told(found)}")
        sizes = {name: {"bytes": (draft / name).stat().st_size, "sha256": digests[name]} for name in weights}
        files = sizes | {file.name: vars(describe(draft / file.name)) for file in beside}
        document = _document(plan, out, comparison, found) | {"files": files}
        write_whole(draft / REPORT, json.dumps(document, indent=1) + "\n")
    return document


def check_merged(
    spec: RunSpec,
    adapter: Path,
    merged: Path,
    *,
    base: Path | None = None,
    logits: bool = True,
    other_base: bool = False,
    options: Options = ALLOW_NOTHING,
    progress: Callable[[str], None] = lambda step: None,
) -> dict[str, Any]:
    """Is the adapter in a merged model, whoever merged it? Files are held against base plus delta; none is written.

    Args:
        merged: folder of the merged model.
        adapter, base, logits, other_base, options, progress: as `merge`.

    Returns:
        As `merge`, without `files`; `faults` is empty if the folder holds base plus adapter and nothing else.

    Raises:
        ConfigError, Unavailable: as `merge`.
    """
    plan, evidence = _planned(spec, adapter, base, other_base, options, progress)
    run = asked_run(plan, evidence) if logits else None
    comparison = compare(plan.files, weight_files(merged), plan.changes, _counter(progress, "comparing", plan.bytes))
    found = None
    if run is not None and not comparison.faults:
        found = compare_logits(plan, merged, run, progress)
    document = _document(plan, merged, comparison, found)
    if found is not None and not found.right and not plan.outside:
        document["faults"].append(f"merged and unmerged differ: {_told(found)}")
    return document


def _planned(
    spec: RunSpec,
    adapter: Path,
    base: Path | None,
    other_base: bool,
    options: Options,
    progress: Callable[[str], None],
) -> tuple[MergePlan, Evidence]:
    check_patch(spec, allow_code=options.allow_code)
    saved = read_adapter(adapter)
    into = merged_spec(spec, base)
    evidence = Evidence(into, {}, progress=progress, **vars(options))
    progress("finding out what the adapter changes")
    return plan_merge(spec, into, saved, evidence, other=other_base), evidence


def _document(plan: MergePlan, out: Path, comparison: Comparison, found: Logits | None) -> dict[str, Any]:
    notes = list(plan.notes)
    if comparison.kept < MOSTLY:
        worst = min(comparison.targets, key=lambda target: target.kept)
        lost = sum(target.kept < MOSTLY for target in comparison.targets)
        notes.append(
            f"rounding to {plan.spec.model.dtype} lost more than a tenth of the delta in {lost} of "
            f"{len(comparison.targets)} tensors: {worst.key} keeps {worst.kept:.0%}; serve the adapter beside its base "
            "instead"
        )
    if found is None:
        notes.append("the logits were not compared: that merged and unmerged answer alike was not verified")
    elif not found.telling:
        notes.append(
            f"the logits prove nothing: the adapter moves them by {found.effect:.2g} of their spread, and rounding may "
            f"by {found.tolerance:.2g}; the files were compared value by value"
        )
    if found is not None and not found.right:
        notes.append(f"merged and unmerged differ, as they must where a clamp acts: {_told(found)}")
    if on_object_storage(out.absolute().parent):
        notes.append("a mount of object storage renames folders file by file: do not read the folder before the end")
    keys = [tensor.key for tensor in comparison.targets]
    return {
        "schema": SCHEMA,
        "out": str(out),
        "base": {"folder": str(plan.base), "model": plan.spec.model.id, "files": len(plan.files), "bytes": plan.bytes},
        "adapter": {"folder": str(plan.saved.folder), "sha256": digest(plan.saved)},
        "dtype": plan.spec.model.dtype,
        "changed": keys,
        "untouched": comparison.untouched,
        "kept": comparison.kept,
        "units": max((target.units for target in comparison.targets), default=0.0),
        "logits": found and {**dataclasses.asdict(found), "right": found.right, "telling": found.telling},
        "outside_clamps": list(plan.outside),
        "serving": serving_names(plan.config.values, plan.files),
        "faults": list(comparison.faults),
        "notes": notes,
        "versions": installed(),
    }


def _told(found: Logits) -> str:
    return (
        f"logits are {found.gap:.2g} of their spread apart, allowed {found.tolerance:.2g}; the adapter moves them by "
        f"{found.effect:.2g}, PEFT's own merge by {found.by_peft:.2g}"
    )


def _beside(plan: MergePlan) -> Iterator[Path]:
    """What belongs to a base beside its weights; nothing of an adapter, which `from_pretrained` would attach."""
    divided = plan.files[0].name != SINGLE
    for file in sorted(plan.base.iterdir(), key=lambda file: file.name):
        index = file.name.endswith(".index.json")
        left_out = file.name == REPORT or file.name.startswith("adapter_") or (index and file.name != INDEX)
        if file.suffix not in BESIDE or left_out or (index and not divided):
            continue
        if file.is_file() and file.stat().st_size <= LARGEST_BESIDE_BYTES:
            yield file


def _copy(source: Path, target: Path) -> None:
    """Copy a file's content, whatever links lead to it, and make it durable."""
    with source.open("rb") as read, target.open("xb") as written:
        shutil.copyfileobj(read, written)
        written.flush()
        os.fsync(written.fileno())
    target.chmod(READABLE)


def _counter(progress: Callable[[str], None], doing: str, total: int) -> Callable[[int], None]:
    """Tells how far a pass over the base's bytes is."""
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        progress(f"{doing} weights: {show_gib(done)} of {show_gib(total)}")

    return tell
