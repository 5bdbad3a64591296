"""What makes two runs the same run: every setting that decides what is learnt, and none that does not."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from vlcheck.spec import RunSpec

Identity: TypeAlias = Mapping[str, Any]

NOT_LEARNT = frozenset((
    "training.output_dir", "training.logging_steps", "training.save_strategy", "training.save_steps",
    "training.save_total_limit", "training.per_device_eval_batch_size", "training.dataloader_num_workers",
    "data.max_unreadable", "training.report_to", "training.run_name", "training.freeze", "training.assistant_only_loss",
    "training.completion_only_loss", "training.torch_compile", "training.gradient_checkpointing_share",
))  # fmt: skip
"""Settings that change nothing of what is learnt; TRL's, which this loop refuses, among them."""
EVALUATION = frozenset((
    "data.eval_split", "data.eval_samples", "training.eval_strategy", "training.eval_steps",
    "training.load_best_model_at_end", "training.metric_for_best_model", "training.early_stopping_patience",
))  # fmt: skip
"""Settings that change nothing of it either, unless evaluations choose the adapter or the end of the run."""
SPLIT = frozenset(("training.per_device_train_batch_size", "training.gradient_accumulation_steps"))
"""How an effective batch is divided; the effective batch itself counts."""


CONTENT = ("data.rows", "data.evaluation", "model.base", "model.processor", "model.patch.source")
"""Digests of an identity, see `content_of`."""


def identity_of(spec: RunSpec, effective_batch: int, content: Mapping[str, str] | None = None) -> Identity:
    """What decides a run's result, as flat JSON values: settings, and digests of what it learns from.

    Where data or a local base lie says nothing about them: their content stands in for the path.

    Args:
        effective_batch: rows of an optimizer step; how they are divided is no part of the identity.
        content: digests by name, as `content_of` makes them.
    """
    paths = {"data.path"} | ({"model.id"} if Path(spec.model.id).expanduser().is_dir() else set())
    left_out = NOT_LEARNT | SPLIT | paths | (frozenset() if chosen(spec) else EVALUATION)
    kept = {path: value for path, value in settings_of(spec).items() if path not in left_out}
    return {**kept, "effective_batch": effective_batch, **(content or {})}


def chosen(spec: RunSpec) -> bool:
    """Whether evaluations decide what a run publishes, or when it ends."""
    return spec.training.load_best_model_at_end or spec.training.early_stopping_patience is not None


def settings_of(spec: RunSpec) -> dict[str, Any]:
    """Every setting of a run that training reads, as flat JSON values."""
    sections = {name: getattr(spec, name) for name in ("model", "quantization", "lora", "data", "training")}
    flat = {**dict(_flat("", sections)), "intent.answers": spec.intent.answers}
    return json.loads(json.dumps(flat, default=dict))  # type: ignore[no-any-return]


def changes(kept: Mapping[str, Any], split: Sequence[int], versions: Mapping[str, str]) -> Iterator[str]:
    """What is otherwise than in the process that wrote a checkpoint of the same run.

    Args:
        kept: what the checkpoint holds beside its tensors.
        split: micro-batch, accumulation steps, processes, and 1 where layers are compiled.
        versions: of the installed packages.
    """
    names = ("micro-batch", "accumulation", "processes", "compiled")
    before = zip(names, (*kept.get("split", split), 0), split, strict=False)
    if told := [f"{name} {now} after {then}" for name, then, now in before if then != now]:
        yield f"{', '.join(told)}: the losses agree with an unchanged run's but for rounding and dropout"
    theirs = kept.get("versions", {})
    if told := [f"{name} {now} after {theirs[name]}" for name, now in versions.items() if theirs.get(name, now) != now]:
        yield f"{', '.join(told)}: other versions may compute otherwise"


def fingerprint(identity: Identity) -> str:
    """SHA-256 of an identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def differences(theirs: Identity, ours: Identity) -> list[str]:
    """Settings in which two runs differ: `training.learning_rate: 5e-05 there, 0.0001 here`."""
    absent = object()
    return [
        f"{path}: {_shown(theirs, path)} there, {_shown(ours, path)} here"
        for path in sorted({*theirs, *ours})
        if theirs.get(path, absent) != ours.get(path, absent)
    ]


def _shown(identity: Identity, path: str) -> str:
    return json.dumps(identity[path]) if path in identity else "unset"


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
        value = {str(number): inner for number, inner in enumerate(value)}
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), inner)
    else:
        yield prefix, value
