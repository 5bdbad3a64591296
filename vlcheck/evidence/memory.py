"""The memory of a run as evidence for rules; one function a name, as in `vlcheck.evidence.model`."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from vlcheck.finding import Unavailable
from vlcheck.gpus import Gpu, UnknownGpu, card
from vlcheck.gpus import gpu as row_of
from vlcheck.memory.alternatives import Alternative, changes, with_training
from vlcheck.memory.host import Host, host_of
from vlcheck.memory.plan import FitVerdict, MemoryPlan
from vlcheck.memory.project import Simulation, project_memory
from vlcheck.model.build import AdapterRefused, UnbuildableConfig
from vlcheck.model.config import ModelConfig
from vlcheck.model.family import Family
from vlcheck.spec import RunSpec

YARDSTICK = "h100"
"""The card whose kernels a run is projected with where its own is not known: the one that was measured."""
UNLOCK = "name hardware.gpu or hardware.memory_gib, or give --gpu or --memory-gib"


def projection(spec: RunSpec, config: ModelConfig, family: Family) -> Callable[[], str]:
    """Preparing to project the run without a card."""

    def told() -> str:
        """What the run takes, in a phrase; simulated only when it is asked for."""
        try:
            plan = project_memory(spec, config.values, family, row_of(YARDSTICK))
        except Unavailable as missing:
            return f"nothing could be projected: {missing.reason}"
        except (AdapterRefused, UnbuildableConfig):
            return "nothing could be projected: the run's model cannot be built, see VLC101 and VLC102"
        return (
            f"projected: {plan.driver_bytes / 2**30:.1f} GiB of one GPU, with the kernels of the {plan.gpu.title} "
            f"({plan.shape})"
        )

    return told


def gpu(spec: RunSpec, projection: Callable[[], str]) -> Gpu:
    """Finding the GPU."""
    try:
        found = card(spec.hardware.gpu, spec.hardware.memory_gib)
    except UnknownGpu as unknown:
        raise Unavailable(f"{unknown}; {projection()}", UNLOCK) from unknown
    if found is None:
        raise Unavailable(f"no card is named; {projection()}", UNLOCK)
    return found


def simulation(spec: RunSpec, config: ModelConfig, family: Family, gpu: Gpu) -> Simulation:
    """Building the model for a simulated step."""
    try:
        return Simulation(spec, config.values, family)
    except (AdapterRefused, UnbuildableConfig) as refused:
        raise Unavailable("the run's model cannot be built, see VLC101 and VLC102") from refused


def memory_plan(simulation: Simulation, gpu: Gpu) -> MemoryPlan:
    """Simulating a training step without storage."""
    return simulation.plan(gpu)


def other_checkpointing(simulation: Simulation, gpu: Gpu, spec: RunSpec) -> MemoryPlan:
    """Simulating a step with checkpointing switched the other way."""
    switched = not spec.training.gradient_checkpointing
    return simulation.plan(gpu, spec=with_training(spec, gradient_checkpointing=switched))


def cheapest_fit(simulation: Simulation, gpu: Gpu, spec: RunSpec, memory_plan: MemoryPlan) -> Alternative | None:
    """Looking for the cheapest change that makes the run fit."""
    if memory_plan.verdict is FitVerdict.FITS:
        return None
    for change, changed in changes(spec):
        plan = simulation.plan(gpu, spec=changed)
        if plan.verdict is FitVerdict.FITS:
            return Alternative(change, plan)
    return None


def host(spec: RunSpec, reference: nn.Module, simulation: Simulation) -> Host:
    """Adding up what the host holds."""
    kept = spec.training.save_total_limit or 1
    return host_of(reference, simulation.model, platform=spec.launch.platform, kept=kept)


MEMORY_COLLECTORS = (projection, gpu, simulation, memory_plan, other_checkpointing, cheapest_fit, host)
