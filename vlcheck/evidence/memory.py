"""The memory of a run as evidence for rules; one function a name, as in `vlcheck.evidence.collectors`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from vlcheck.data.read import NoSuchSplit, Row, read_rows
from vlcheck.evidence.model import Skeleton
from vlcheck.evidence.options import Options
from vlcheck.finding import NotApplicable, Unavailable, collector
from vlcheck.gpus import Gpu, UnknownGpu, card, show_gib
from vlcheck.gpus import gpu as row_of
from vlcheck.memory.alternatives import Alternative, changes
from vlcheck.memory.host import Host, host_of
from vlcheck.memory.plan import YARDSTICK, FitVerdict, MemoryPlan
from vlcheck.memory.project import Simulation, project_memory
from vlcheck.memory.shape import Basis
from vlcheck.model.build import AdapterRefused, UnbuildableConfig
from vlcheck.model.config import ModelConfig
from vlcheck.model.family import Family
from vlcheck.model.modules import ModuleTable
from vlcheck.processing.collator import Collator
from vlcheck.processing.lengths import Lengths, LongRows, measure_rows
from vlcheck.spec import RunSpec
from vlcheck.training.settings import settings_of

UNLOCK = "name hardware.gpu or hardware.memory_gib, or give --gpu or --memory-gib"


@collector("measuring the rows of the data")
def lengths(
    spec: RunSpec, options: Options, progress: Callable[[str], None], own_collator: Collator | None = None
) -> Lengths:
    """Tokens, images and answers of each row of the training split, as far as they can be had; none where they cannot.

    With those of the evaluation split, where the run evaluates while it trains.

    Rows that promise images and hold none (VLC521) are not those that will be trained, so they count as not read. Why
    the data cannot be read is what its rules say; the plan says that its rows were not read.
    """
    if own_collator is None:
        return Lengths()
    promised = "image" in spec.data.modalities

    def of(split: str) -> Lengths:
        try:
            rows = read_rows(spec.data, split, offline=options.offline or not options.stream)
            told = (row.conversation for row in rows if isinstance(row, Row))
            found = measure_rows(told, own_collator, progress=progress)
        except (Unavailable, NotApplicable, NoSuchSplit):
            return Lengths()
        return found if not promised or any(row.images for row in found.rows) else Lengths()

    trained = of(spec.data.train_split)
    evaluates = trained.rows and settings_of(spec).eval_rows
    evaluated = of(spec.data.eval_split) if evaluates and spec.data.eval_split else Lengths()
    return replace(trained, evaluated=evaluated) if evaluated.rows else trained


@collector("reading data.max_length")
def row_limit(spec: RunSpec) -> int:
    """How long a row may be, in tokens."""
    if spec.data.max_length is None:
        raise NotApplicable("data.max_length is not set")
    return spec.data.max_length


@collector("holding every row against data.max_length")
def long_rows(row_limit: int, lengths: Lengths) -> LongRows:
    """Which of all rows of the training split are too long."""
    return LongRows(len(lengths.rows), lengths.over(row_limit))


@collector("preparing to project the run without a card")
def projection(aimed: RunSpec, config: ModelConfig, family: Family, lengths: Lengths) -> Callable[[], str]:
    """What the run takes on a card that was measured, in a phrase; simulated only when it is asked for."""

    def told() -> str:
        try:
            plan = project_memory(aimed, config.values, family, row_of(YARDSTICK), lengths=lengths)
        except Unavailable as missing:
            return f"nothing could be projected: {missing.reason}"
        except (AdapterRefused, UnbuildableConfig):
            return "nothing could be projected: the run's model cannot be built, see VLC101 and VLC102"
        return (
            f"projected: {show_gib(plan.driver_bytes)} of one GPU, with the kernels of the {plan.gpu.title} "
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
    aimed: RunSpec,
    config: ModelConfig,
    family: Family,
    gpu: Gpu,
    skeleton: Skeleton,
    modules: ModuleTable,
    lengths: Lengths,
) -> Simulation:
    """The run's model on the meta device, ready to have training steps simulated on it.

    It takes the skeleton over once its modules have been described; building a second one would take as long as both
    steps. A live model and a patched one stay as they are.

    Raises:
        Unavailable: if the model cannot be built.
    """
    own = None if skeleton.live or aimed.model.patch is not None else skeleton.peft
    try:
        return Simulation(aimed, config.values, family, own, lengths)
    except (AdapterRefused, UnbuildableConfig) as refused:
        raise Unavailable("the run's model cannot be built, see VLC101 and VLC102") from refused


@collector("simulating a training step without storage")
def memory_plan(simulation: Simulation, gpu: Gpu) -> MemoryPlan:
    """Peak of the worst training step of the run on the card, in bytes, by cause, with its upper bound."""
    return simulation.plan(gpu)


@collector("simulating a step with checkpointing switched the other way")
def other_checkpointing(simulation: Simulation, gpu: Gpu, memory_plan: MemoryPlan) -> MemoryPlan:
    """The same plan, in bytes, with `gradient_checkpointing` turned round.

    Raises:
        NotApplicable: where it is on, and rows are assumed: no ground to use more memory, and the step takes seconds.
    """
    if simulation.settings.checkpointing and memory_plan.shape.basis is Basis.ASSUMED:
        raise NotApplicable("how long rows are is assumed")
    switched = replace(simulation.settings, checkpointing=not simulation.settings.checkpointing)
    return simulation.plan(gpu, settings=switched)


@collector("looking for the cheapest change that makes the run fit")
def cheapest_fit(simulation: Simulation, gpu: Gpu, memory_plan: MemoryPlan) -> Alternative | None:
    """The first alternative, from cheap to dear, whose plan fits; None where the run fits already, or nothing does."""
    if memory_plan.verdict is FitVerdict.FITS:
        return None
    for change, changed in changes(simulation.settings):
        plan = simulation.plan(gpu, replace(memory_plan.shape, rows=changed.rows), changed)
        if plan.verdict is FitVerdict.FITS:
            return Alternative(change, plan)
    return None


@collector("adding up what the host holds")
def host(spec: RunSpec, reference: nn.Module, simulation: Simulation) -> Host:
    """Bytes that the run takes of the host's memory and disk: training, checkpoints, merging."""
    kept = spec.training.save_total_limit or 1
    return host_of(reference, simulation.model, platform=spec.launch.platform, kept=kept)


MEMORY_COLLECTORS = (
    lengths, row_limit, long_rows, projection, gpu, simulation, memory_plan, other_checkpointing, cheapest_fit, host,
)  # fmt: skip
