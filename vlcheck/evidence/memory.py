"""The memory of a run as evidence for rules; one function a name, as in `vlcheck.evidence.collectors`."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from vlcheck.evidence.model import Skeleton
from vlcheck.finding import Unavailable, collector
from vlcheck.gpus import Gpu, UnknownGpu, card
from vlcheck.gpus import gpu as row_of
from vlcheck.memory.alternatives import Alternative, changes, with_training
from vlcheck.memory.host import Host, host_of
from vlcheck.memory.plan import FitVerdict, MemoryPlan
from vlcheck.memory.project import Simulation, project_memory
from vlcheck.model.build import AdapterRefused, UnbuildableConfig
from vlcheck.model.config import ModelConfig
from vlcheck.model.family import Family
from vlcheck.model.modules import ModuleTable
from vlcheck.spec import RunSpec

YARDSTICK = "h100"
"""The card whose kernels a run is projected with where its own is not known: the one that was measured."""
UNLOCK = "name hardware.gpu or hardware.memory_gib, or give --gpu or --memory-gib"


@collector("preparing to project the run without a card")
def projection(spec: RunSpec, config: ModelConfig, family: Family) -> Callable[[], str]:
    """What the run takes on a card that was measured, in a phrase; simulated only when it is asked for."""

    def told() -> str:
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


@collector("looking up the card")
def gpu(spec: RunSpec, projection: Callable[[], str]) -> Gpu:
    """The run's card: bytes of memory, compute capability, bf16 rate in teraflops.

    Raises:
        Unavailable: if none is named, or vlcheck does not know it; the reason says what the run takes.
    """
    try:
        found = card(spec.hardware.gpu, spec.hardware.memory_gib)
    except UnknownGpu as unknown:
        raise Unavailable(f"{unknown}; {projection()}", UNLOCK) from unknown
    if found is None:
        raise Unavailable(f"no card is named; {projection()}", UNLOCK)
    return found


@collector("building the model for a simulated step")
def simulation(
    spec: RunSpec, config: ModelConfig, family: Family, gpu: Gpu, skeleton: Skeleton, modules: ModuleTable
) -> Simulation:
    """The run's model on the meta device, ready to have training steps simulated on it.

    It takes the skeleton over once its modules have been described; building a second one would take as long as both
    steps. A live model and a patched one stay as they are.

    Raises:
        Unavailable: if the model cannot be built.
    """
    own = None if skeleton.live or spec.model.patch is not None else skeleton.peft
    try:
        return Simulation(spec, config.values, family, own)
    except (AdapterRefused, UnbuildableConfig) as refused:
        raise Unavailable("the run's model cannot be built, see VLC101 and VLC102") from refused


@collector("simulating a training step without storage")
def memory_plan(simulation: Simulation, gpu: Gpu) -> MemoryPlan:
    """Peak of one training step on the card, in bytes, by cause, with its upper bound."""
    return simulation.plan(gpu)


@collector("simulating a step with checkpointing switched the other way")
def other_checkpointing(simulation: Simulation, gpu: Gpu, spec: RunSpec) -> MemoryPlan:
    """The same plan, in bytes, with `gradient_checkpointing` turned round."""
    switched = not spec.training.gradient_checkpointing
    return simulation.plan(gpu, spec=with_training(spec, gradient_checkpointing=switched))


@collector("looking for the cheapest change that makes the run fit")
def cheapest_fit(simulation: Simulation, gpu: Gpu, spec: RunSpec, memory_plan: MemoryPlan) -> Alternative | None:
    """The first alternative, from cheap to dear, whose plan fits; None where the run fits already, or nothing does."""
    if memory_plan.verdict is FitVerdict.FITS:
        return None
    for change, changed in changes(spec):
        plan = simulation.plan(gpu, spec=changed)
        if plan.verdict is FitVerdict.FITS:
            return Alternative(change, plan)
    return None


@collector("adding up what the host holds")
def host(spec: RunSpec, reference: nn.Module, simulation: Simulation) -> Host:
    """Bytes that the run takes of the host's memory and disk: training, checkpoints, merging."""
    kept = spec.training.save_total_limit or 1
    return host_of(reference, simulation.model, platform=spec.launch.platform, kept=kept)


MEMORY_COLLECTORS = (projection, gpu, simulation, memory_plan, other_checkpointing, cheapest_fit, host)
