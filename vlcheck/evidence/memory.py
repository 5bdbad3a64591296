"""The memory of a run as evidence for rules; one function a name, as in `vlcheck.evidence.collectors`."""

from __future__ import annotations

from torch import nn

from vlcheck.finding import NotApplicable, Unavailable, collector
from vlcheck.gpus import Gpu
from vlcheck.gpus import gpu as find_gpu
from vlcheck.memory.alternatives import Alternative, changes, with_training
from vlcheck.memory.host import Host, host_of
from vlcheck.memory.plan import FitVerdict, MemoryPlan
from vlcheck.memory.project import Simulation
from vlcheck.model.build import AdapterRefused, UnbuildableConfig
from vlcheck.model.config import ModelConfig
from vlcheck.model.family import Family
from vlcheck.spec import ConfigError, Problem, RunSpec


@collector("looking up the card")
def gpu(spec: RunSpec) -> Gpu:
    """The card that `hardware.gpu` names: bytes of memory, compute capability, bf16 rate in teraflops.

    Raises:
        NotApplicable: if the config names none.
        ConfigError: if vlcheck does not know it.
    """
    if spec.hardware.gpu is None:
        raise NotApplicable("hardware.gpu names no card")
    try:
        return find_gpu(spec.hardware.gpu)
    except ValueError as unknown:
        raise ConfigError(Problem(spec.where("hardware.gpu"), str(unknown))) from unknown


@collector("building the model for a simulated step")
def simulation(spec: RunSpec, config: ModelConfig, family: Family, gpu: Gpu) -> Simulation:
    """The run's model on the meta device, ready to have training steps simulated on it.

    Raises:
        Unavailable: if the model cannot be built.
    """
    try:
        return Simulation(spec, config.values, family)
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


MEMORY_COLLECTORS = (gpu, simulation, memory_plan, other_checkpointing, cheapest_fit, host)
