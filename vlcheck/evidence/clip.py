"""How evidence about clip wrappers is had: which there are, what they clip at, whether adapters stay inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from vlcheck.evidence.model import Skeleton
from vlcheck.evidence.tiny import TinyAttempt
from vlcheck.finding import NotApplicable, collector
from vlcheck.model.clip_behaviour import Behaviour, Containment, PowerlessProbe, behave, contain
from vlcheck.model.clip_bounds import StoredBounds, read_bounds
from vlcheck.model.config import ModelConfig
from vlcheck.model.family import CLIP_BOUNDS, Family
from vlcheck.model.modules import ModuleTable, holds_adapter
from vlcheck.model.reference import build_reference
from vlcheck.spec import Lora, RunSpec


@dataclass(frozen=True)
class Wrappers:
    """Clip wrappers of the untouched model, live or not: path to input width."""

    all: Mapping[str, int]
    clipping: Mapping[str, int]
    """Those that hold bounds."""


@collector("finding the clip wrappers of the untouched model")
def wrappers(family: Family, reference: nn.Module) -> Wrappers:
    """Every module of the family's wrapper class: path to input width (elements), and which of them hold bounds.

    Raises:
        NotApplicable: if the family has no clip wrappers.
    """
    if family.clip_wrapper is None:
        raise NotApplicable(f"{family.name} has no clip wrappers")
    found = {n: m for n, m in reference.named_modules() if type(m).__name__ == family.clip_wrapper}
    widths = {name: module.linear.in_features for name, module in found.items()}
    return Wrappers(widths, {n: widths[n] for n, m in found.items() if hasattr(m, CLIP_BOUNDS[0])})


@collector("finding the wrappers that hold bounds")
def clipped(wrappers: Wrappers) -> Mapping[str, int]:
    """Wrappers that clip: path to input width (elements).

    Raises:
        NotApplicable: if no wrapper of this checkpoint has bounds.
    """
    if not wrappers.clipping:
        raise NotApplicable(
            f"clipping is inactive for this checkpoint: none of {len(wrappers.all)} wrappers has bounds"
        )
    return wrappers.clipping


@collector("calling every clip wrapper with a large input and a large delta")
def containment(
    lora: Lora, clipped: Mapping[str, int], skeleton: Skeleton, modules: ModuleTable, tiny: TinyAttempt
) -> Containment:
    """What comes out of each wrapper, against its bounds, on the live model or else on the miniature.

    A wrapper that the miniature does not mirror is not among the behaviours; where none could be measured, the
    value says why.
    """
    live = skeleton.model
    if skeleton.live and live is not None and not any(p.is_meta for p in live.parameters()):
        subjects = {name: (live.get_submodule(name), width) for name, width in clipped.items()}
        behaviours, unmeasured = _measured(subjects)
        return contain(modules, behaviours, len(behaviours), unmeasured)
    if tiny.run is None:
        return contain(modules, {}, unmeasured=tiny.problem)
    named = {name: tiny.run.tiny_name(name) for name in clipped}
    widths = {n: m for n, m in build_reference(tiny.run.config).named_modules() if n in set(named.values())}
    subjects = {n: (tiny.run.model.get_submodule(n), m.linear.in_features) for n, m in widths.items()}
    behaviours, unmeasured = _measured(subjects)
    holding = {name for name, (module, _) in subjects.items() if holds_adapter(module)}
    return contain(
        modules,
        {
            row.name: behaviours[named[row.name]]
            for row in modules.where(clipped=True)
            if named[row.name] in behaviours and row.adapted == (named[row.name] in holding)
        },
        len(behaviours),
        unmeasured,
    )


def _measured(subjects: Mapping[str, tuple[nn.Module, int]]) -> tuple[dict[str, Behaviour], str]:
    behaviours, unmeasured = {}, ""
    for name, (module, width) in subjects.items():
        try:
            behaviours[name] = behave(module, width)
        except PowerlessProbe as powerless:
            unmeasured = f"{name}: {powerless}"
    return behaviours, unmeasured


@collector("reading clip bounds from the checkpoint")
def bounds(spec: RunSpec, clipped: Mapping[str, int], config: ModelConfig) -> StoredBounds:
    """The bounds that the checkpoint's files hold for the clipping wrappers.

    Raises:
        NotApplicable: if weights are random, so that no checkpoint is read.
        Unavailable: if the weights are not on this machine.
    """
    if spec.model.weights == "random":
        raise NotApplicable("model.weights is random: no checkpoint is read, so no stored bounds are used")
    return read_bounds(config.folder, list(clipped))


CLIP_COLLECTORS = (wrappers, clipped, containment, bounds)
