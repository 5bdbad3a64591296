"""Do the clamps of a clip wrapper bound base plus delta? Measured by calling the wrapper itself.

Every bound is set to a finite value and every `lora_B` drawn large, so that any leak is obvious. The
same measurement with the delta moved outside the clamps must fail; otherwise it proves nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vlcheck.model.family import CLIP_BOUNDS, Part
from vlcheck.model.modules import ModuleTable, Placement
from vlcheck.model.random_weights import seeded

LIMIT = 0.05
"""Bound that the probe sets on inputs and outputs, plus and minus."""
WIDE = 1e30
"""Bound that no output of the probe comes near."""
SLACK = 1e-3


@dataclass(frozen=True)
class Behaviour:
    """What one wrapper did with a large input and a large delta."""

    largest: float
    """Largest absolute output, adapters unmerged."""
    largest_merged: float
    merge_gap: float
    """Largest difference between merged and unmerged output, in units of what was clamped away, so that the
    rounding of large sums does not count."""
    merge_error: str
    merge_tolerance: float
    inputs_clamped: bool
    control: float
    """Largest absolute output with the delta moved outside; must exceed the limit."""

    @property
    def bounded(self) -> bool:
        """Base plus delta stay within the limit."""
        return self.largest <= LIMIT * (1 + SLACK)

    @property
    def merges(self) -> bool:
        """Merged and unmerged outputs are the same, up to rounding."""
        return not self.merge_error and self.merge_gap <= self.merge_tolerance

    @property
    def placement(self) -> Placement:
        """The placement that this behaviour amounts to: inside where base plus delta stay bounded."""
        if self.bounded:
            return Placement.INSIDE
        return Placement.AROUND if self.largest_merged <= LIMIT * (1 + SLACK) else Placement.REPLACED


@dataclass(frozen=True)
class Contained:
    """One wrapper that clamps in the untouched model, and what the run made of it."""

    name: str
    part: Part | None
    adapted: bool
    structure: Placement | None
    """None: the wrapper is intact and carries no adapter."""
    behaviour: Behaviour | None
    """None: not measured; see `Containment.unmeasured`."""

    @property
    def placement(self) -> Placement | None:
        """The verdict: behaviour where it was measured, structure elsewhere."""
        if self.behaviour is None:
            return self.structure
        if self.behaviour.bounded and not self.adapted:
            return None
        return self.behaviour.placement

    @property
    def consistent(self) -> bool:
        """Behaviour is what the structure promises; an intact wrapper also clamps its inputs."""
        if self.behaviour is None:
            return True
        leaks = self.placement in (Placement.AROUND, Placement.REPLACED)
        return self.placement is self.structure and (leaks or self.behaviour.inputs_clamped)


@dataclass(frozen=True)
class Containment:
    """Every module that clamps in the untouched model, and what was found out about it."""

    wrappers: tuple[Contained, ...]
    called: int = 0
    """Distinct wrappers that were called; in a tiny run each stands for many."""
    unmeasured: str = ""
    """Why behaviour was not measured, where it was not."""

    def measured(self) -> list[Contained]:
        """Wrappers whose behaviour is known."""
        return [wrapper for wrapper in self.wrappers if wrapper.behaviour is not None]


class PowerlessProbe(Exception):
    """The control did not fail, so nothing that the probe says counts."""


def contain(
    modules: ModuleTable, measured: Mapping[str, Behaviour], called: int = 0, unmeasured: str = ""
) -> Containment:
    """Join structure and behaviour for every module that the untouched model clamps."""
    return Containment(
        tuple(
            Contained(row.name, row.part, row.adapted, row.placement, measured.get(row.name))
            for row in modules.where(clipped=True)
        ),
        called,
        unmeasured,
    )


def behave(wrapper: nn.Module, in_features: int, *, seed: int = 0) -> Behaviour:
    """Measure one wrapper, or whatever a run put in its place; works on a copy.

    Args:
        wrapper: module with storage, called with input of shape (rows, in_features).

    Raises:
        PowerlessProbe: if the control stays within the limit.
    """
    subject = copy.deepcopy(wrapper).eval().float()  # so that rounding stays far below every threshold
    packed = any(not p.is_floating_point() for p in subject.parameters())
    with torch.no_grad(), seeded(seed):
        _enlarge(subject)
        parameter = next(p for p in subject.parameters() if p.is_floating_point())
        x = torch.randn(4, in_features).to(parameter.device, parameter.dtype) * 50
        _bound(subject, inputs=50.0, outputs=LIMIT)
        control = _largest(_outside(subject, x))
        if not control > LIMIT * (1 + SLACK):
            raise PowerlessProbe(f"with the delta outside the clamps the output stayed at {control:.3g} <= {LIMIT}")
        output = subject(x)
        _bound(subject, inputs=LIMIT, outputs=WIDE)
        wide = subject(x)
        inputs_clamped = torch.allclose(wide, subject(x.clamp(-LIMIT, LIMIT)), rtol=SLACK)
        error = _merge(subject)
        merged_wide = wide if error else subject(x)
        _bound(subject, inputs=50.0, outputs=LIMIT)
        merged = output if error else subject(x)
    return Behaviour(
        largest=_largest(output),
        largest_merged=_largest(merged),
        merge_gap=max(_largest(output - merged) / control, _largest(wide - merged_wide) / _largest(wide)),
        merge_error=error,
        merge_tolerance=0.5 if packed else SLACK,  # merging into packed weights rounds to 4 bits
        inputs_clamped=inputs_clamped,
        control=control,
    )


def _tuners(module: nn.Module) -> list[Any]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [inner for inner in module.modules() if isinstance(inner, BaseTunerLayer)]


def _enlarge(module: nn.Module) -> None:
    for tuner in _tuners(module):
        for matrices in (tuner.lora_A, tuner.lora_B):
            for matrix in matrices.values():
                matrix.weight.normal_()


def _bound(module: nn.Module, *, inputs: float, outputs: float) -> None:
    """Set every bound that is left below this module; none is left where a patch dropped them."""
    for inner in module.modules():
        for name, value in zip(CLIP_BOUNDS, (-inputs, inputs, -outputs, outputs), strict=True):
            if isinstance(buffer := getattr(inner, name, None), torch.Tensor):
                buffer.fill_(value)


def _outside(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The same tensors with every clamp inside the delta: clamp(base) + delta, or plain base without one."""
    tuners = _tuners(module)
    if not tuners:
        inner = next(m for m in module.modules() if isinstance(m, nn.Linear))
        return nn.functional.linear(x, inner.weight, inner.bias)
    with _disabled(tuners):
        output: torch.Tensor = module(x)
    for tuner in tuners:
        for name in tuner.active_adapters:
            lora_a = tuner.lora_A[name]
            output = output + tuner.lora_B[name](lora_a(x.to(lora_a.weight.dtype))) * tuner.scaling[name]
    return output


@contextmanager
def _disabled(tuners: list[Any]) -> Iterator[None]:
    for tuner in tuners:
        tuner.enable_adapters(False)
    try:
        yield
    finally:
        for tuner in tuners:
            tuner.enable_adapters(True)


def _merge(module: nn.Module) -> str:
    try:
        for tuner in _tuners(module):
            tuner.merge()
    except Exception as error:  # a custom layer may not know how
        return f"{type(error).__name__}: {error}"
    return ""


def _largest(tensor: torch.Tensor) -> float:
    return float(tensor.abs().max())
