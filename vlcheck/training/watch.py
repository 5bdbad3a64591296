"""Watch a run from its first step: what cannot be right stops it, what looks wrong is said once."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

import torch
from torch import nn

from vlcheck.model.family import Family, Part
from vlcheck.spec import Intent

LARGEST_NORM = 1_000.0
"""Gradient norm before clipping beyond which a step is no step: 1e4 to 1e6 are reported for diverging Gemma 4 runs."""
PATIENCE_STEPS = 20
"""Steps in a row with a loss above the first one before it is said."""
SETTLED_STEPS = 3
"""Optimizer steps after which every adapter that a gradient reaches has moved: with a warm-up from zero the first
step moves nothing, the second moves what starts at zero, the third what stood behind it."""

SAMPLE = 4_096
"""Values of an adapter weight that are looked at to see whether it moved; one that moves changes nearly all."""


class RunStopped(Exception):
    """Going on would waste the GPU; the message says what was seen and at which step."""


class NotFinite(RunStopped):
    """Loss or gradient is not a number; the batch that made it is kept."""


class ProcessLost(RunStopped):
    """Another process of the same run has ended."""


def check_processes(broken: RuntimeError) -> None:
    """Tell a run that lost one of its processes from a fault.

    Raises:
        ProcessLost: if what was raised says that another process no longer answers.
    """
    words = ("connection closed by peer", "connection reset by peer", "broken pipe", "remote process exited")
    kind = getattr(torch.distributed, "DistError", ())
    if isinstance(broken, kind) or any(word in str(broken).lower() for word in words):
        raise ProcessLost(
            "another process of this run has ended; the last finished step is on disk, and the same command goes on "
            "from there, with as many processes or fewer"
        ) from broken


def norms_by_part(parameters: Mapping[str, nn.Parameter], family: Family) -> dict[str, torch.Tensor]:
    """Norm of the gradients of each part, 0-dimensional tensors on the parameters' device.

    Args:
        parameters: by their path in the base model.
    """
    gradients: dict[str, list[torch.Tensor]] = defaultdict(list)
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            gradients[part_name(name, family)].append(parameter.grad)
    return {part: torch.nn.utils.get_total_norm(found) for part, found in gradients.items()}


def part_name(path: str, family: Family) -> str:
    """The part that a parameter belongs to, as metrics call it."""
    part = family.part_of(path)
    return part.intent if part is not None else "other"


class Watch:
    """Judges each step of a run.

    Args:
        parameters: what trains, by path in the base model.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], family: Family, intent: Intent) -> None:
        self._parameters, self._family, self._intent = parameters, family, intent
        self._start = _samples(parameters)
        self._first_loss = math.nan
        self._above = 0
        self._seen = 0
        self._said: Counter[str] = Counter()

    def step(self, step: int, loss: float, norms: Mapping[str, float]) -> Iterator[str]:
        """Warnings about a step whose gradients are known and whose update is not made yet.

        Args:
            step: counted from 1.

        Raises:
            NotFinite: if loss or a norm is not finite.
        """
        broken = [part for part, norm in norms.items() if not math.isfinite(norm)]
        if not math.isfinite(loss) or broken:
            where = f", gradient of {', '.join(broken)}" if broken else ""
            raise NotFinite(f"step {step}: loss {loss}{where} not finite")
        total = math.hypot(*norms.values())
        if total > LARGEST_NORM and not self._said["norm"]:
            self._said["norm"] += 1
            yield f"step {step}: gradient norm {total:.3g} before clipping; allowed: at most {LARGEST_NORM:g}"
        if math.isnan(self._first_loss):
            self._first_loss = loss
        self._above = self._above + 1 if loss > self._first_loss else 0
        if self._above == PATIENCE_STEPS:
            yield (
                f"step {step}: the loss has been above its first value, {self._first_loss:.4g}, for "
                f"{PATIENCE_STEPS} steps"
            )

    def moved(self, step: int) -> Iterator[str]:
        """Warnings about adapters that have not moved yet; asked once, after `SETTLED_STEPS`.

        Raises:
            RunStopped: if nothing moved of a part that the intent declares trained.
        """
        self._seen += 1
        if self._seen != SETTLED_STEPS:
            return
        now = _samples(self._parameters)
        all_of: Counter[str] = Counter()
        still: dict[str, list[str]] = defaultdict(list)
        for name in self._parameters:
            part = part_name(name, self._family)
            all_of[part] += 1
            if torch.equal(now[name], self._start[name]):
                still[part].append(name)
        for intent in (part.intent for part in Part if getattr(self._intent, part.intent) == "train"):
            if (count := all_of[intent]) == len(still[intent]):
                what = f"none of its {count} adapter weights has moved" if count else "it has no adapter"
                raise RunStopped(f"step {step}: intent.{intent} is train, but {what}")
        for part, names in still.items():
            if names:
                yield f"step {step}: {len(names)} of {all_of[part]} adapter weights of {part} did not move: {names[0]}"


def _samples(parameters: Mapping[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    """Up to `SAMPLE` values of each parameter, evenly spread."""
    return {
        name: parameter.detach().flatten()[:: -(-parameter.numel() // SAMPLE)].clone()
        for name, parameter in parameters.items()
    }
