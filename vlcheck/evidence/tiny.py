"""How the run in miniature is had, and what one step of it shows."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vlcheck.config.defaults import framework_of
from vlcheck.finding import Unavailable, collector
from vlcheck.model.build import AdapterRefused, Patch, UnbuildableConfig
from vlcheck.model.config import ModelConfig
from vlcheck.model.family import Family
from vlcheck.model.modules import ModuleTable
from vlcheck.model.tiny_run import Reach, TinyRun, cache_gap, gradient_reach, shrink
from vlcheck.spec import Lora, RunSpec


@dataclass(frozen=True)
class CacheEffect:
    """What switching the key and value cache off does to the tiny run's logits."""

    largest: float
    logits: int
    shared_layers: int


@dataclass(frozen=True)
class TinyAttempt:
    """The probe's tiny run, or why there is none."""

    run: TinyRun | None
    problem: str = ""


@collector("building the same run in miniature")
def tiny(spec: RunSpec, config: ModelConfig, family: Family, modules: ModuleTable, patch: Patch | None) -> TinyAttempt:
    """The run with few layers and random weights on the CPU; what hinders building it is a value, not an error."""
    try:
        return TinyAttempt(shrink(spec, config.values, family, modules, patch))
    except (AdapterRefused, UnbuildableConfig) as error:
        return TinyAttempt(None, f"the miniature of this run cannot be built: {error}")


@collector("taking one step of the miniature, to see which adapters get a gradient")
def reach(spec: RunSpec, lora: Lora, tiny: TinyAttempt, family: Family, modules: ModuleTable) -> Reach:
    """Adapters that a forward and a backward pass of the miniature reach, and those they do not.

    A framework that makes the inputs of checkpointed blocks require gradients loses none, as without reentry.

    Raises:
        Unavailable: if there is no miniature, or its step fails.
    """
    if tiny.run is None:
        raise Unavailable(tiny.problem)
    if (framework := framework_of(spec)) is not None and framework.wakes_inputs.value:
        spec = replace(spec, training=replace(spec.training, gradient_checkpointing_kwargs=None))
    try:
        return gradient_reach(tiny.run, spec, family, modules)
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        raise Unavailable(f"the miniature's step failed: {type(error).__name__}: {error}") from error


@collector("comparing the miniature's logits with and without the cache")
def cache_effect(tiny: TinyAttempt, family: Family) -> CacheEffect:
    """Largest difference of a logit with the key and value cache on and off; 0 where no layers share a cache.

    Raises:
        Unavailable: if there is no miniature.
    """
    if tiny.run is None:
        raise Unavailable(tiny.problem)
    shared = int(tiny.run.config.get("text_config", {}).get("num_kv_shared_layers") or 0)
    if not shared:
        return CacheEffect(0.0, 0, 0)
    largest, logits = cache_gap(tiny.run, family)
    return CacheEffect(largest, logits, shared)


TINY_COLLECTORS = (tiny, reach, cache_effect)
