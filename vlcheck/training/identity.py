"""What makes two runs the same run: every setting that decides what is learnt, and none that does not."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from vlcheck.spec import RunSpec

Identity: TypeAlias = Mapping[str, Any]

NOT_LEARNT = frozenset((
    "training.output_dir", "training.logging_steps", "training.save_strategy", "training.save_steps",
    "training.save_total_limit", "training.per_device_eval_batch_size", "training.dataloader_num_workers",
    "data.eval_split", "data.eval_samples", "data.max_unreadable",
))  # fmt: skip
"""Settings that change nothing of what is learnt."""


def identity_of(spec: RunSpec, processes: int) -> Identity:
    """The settings of a run that decide its result, as flat JSON values.

    Args:
        processes: how many train together; each draws its own dropout.
    """
    sections = {name: getattr(spec, name) for name in ("model", "quantization", "lora", "data", "training")}
    flat = dict(_flat("", sections))
    kept = {path: value for path, value in flat.items() if path not in NOT_LEARNT}
    return json.loads(json.dumps({**kept, "processes": processes}, default=dict))  # type: ignore[no-any-return]


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
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), inner)
    else:
        yield prefix, value
