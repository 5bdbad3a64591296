"""What else would fit: the largest micro-batch, rank and image, other cards, and the plan to recommend."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch

from vlcheck.finding import Unavailable
from vlcheck.gpus import Gpu
from vlcheck.memory.alternatives import Alternative, changes
from vlcheck.memory.batch import layout_of
from vlcheck.memory.host import Host, host_of
from vlcheck.memory.optimizer import Optimized, managed_size, state_sizes
from vlcheck.memory.plan import RESERVED_BAND, FitVerdict, MemoryPlan
from vlcheck.memory.project import Simulation
from vlcheck.memory.shape import Shape
from vlcheck.model.family import Family, Values
from vlcheck.model.reference import build_reference
from vlcheck.processing.lengths import Lengths
from vlcheck.spec import RunSpec
from vlcheck.training.settings import StepSettings

TRIES = 3
"""Simulations that one search may take."""
FARTHEST = 16
"""How many times a number that fits the next one may be."""
WITH_IMAGES = 4
"""How many times a fitting number of rows with images the next one may be: hundreds of images take ten seconds."""


@dataclass(frozen=True)
class Recommended:
    """How to take the run's effective batch on its card."""

    rows: int
    """Micro-batch."""
    accumulation: int
    """Micro-batches of an optimizer step."""
    checkpointed: bool
    driver_bytes: int


@dataclass(frozen=True)
class OnCard:
    """The run as it is described, on another card."""

    plan: MemoryPlan
    largest_rows: int
    """About: the slope is that of the run's own card."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What `vlcheck fit` says of a run: its plan on its card, how far each setting could go, other cards, the host."""

    plan: MemoryPlan
    remedy: Alternative | None
    """The cheapest change that fits; None where the run fits, or nothing does."""
    smaller: Alternative | None
    """Logits at supervised positions, where the run fits and logits at all are its largest line."""
    largest_rows: int
    """Largest micro-batch that fits, 0 where none does."""
    rows_open: bool
    """Whether more rows may fit: the search ended at the largest micro-batch that it simulated."""
    largest_rank: int | None
    """Largest LoRA rank that fits beside the run's own micro-batch; None in a run without adapters."""
    largest_soft_tokens: int | None
    """None where the model gives every image the same number."""
    recommended: Recommended | None
    cards: tuple[OnCard, ...]
    host: Host
    named: bool = True
    """Whether the run names its card; else the plan is for the card that was measured, and the table says the rest."""


def fit(spec: RunSpec, config: Values, family: Family, card: Gpu, others: tuple[Gpu, ...] = (),
        shape: Shape | None = None, lengths: Lengths | None = None, *, named: bool = True) -> Fit:  # fmt: skip
    """Search around a run.

    Args:
        lengths: of the run's rows, where they were measured and no shape is given.
        named: whether the run names its card.

    Raises:
        Unavailable: if its step cannot be simulated.
    """
    simulation = Simulation(spec, config, family, lengths=lengths)
    shape = shape or simulation.plan(card).shape
    settings = replace(simulation.settings, rows=shape.rows)
    seen: dict[int, MemoryPlan] = {}

    def at_rows(rows: int) -> MemoryPlan:
        if rows not in seen:
            seen[rows] = simulation.plan(card, replace(shape, rows=rows), settings)
        return seen[rows]

    plan = at_rows(shape.rows)
    effective = settings.rows * settings.accumulation
    rows = largest(
        at_rows,
        shape.rows,
        second=effective if effective > shape.rows else 0,
        farthest=WITH_IMAGES if shape.images else FARTHEST,
    )
    return Fit(
        named=named,
        plan=plan,
        remedy=_remedy(simulation, card, settings, shape, plan),
        smaller=_fewer_logits(simulation, card, settings, shape, plan),
        largest_rows=rows,
        rows_open=rows == max(seen),
        largest_rank=_largest_rank(simulation, settings, shape, plan),
        largest_soft_tokens=_largest_image(simulation, card, shape, plan),
        recommended=_recommend(simulation, settings, card, shape, rows),
        cards=tuple(_on_card(simulation, other, shape, seen) for other in others),
        host=host_of(
            build_reference(config),
            simulation.model,
            platform=spec.launch.platform,
            kept=spec.training.save_total_limit or 1,
        ),
    )


def largest(
    plan_at: Callable[[int], MemoryPlan],
    start: int,
    *,
    second: int = 0,
    step: int = 1,
    most: int = 4096,
    farthest: int = FARTHEST,
) -> int:
    """The largest number whose plan fits; memory grows with it, so a few secants find it.

    Args:
        start: where to begin.
        second: where to go on when that fits; without it, eight times as far.
        step: numbers are multiples of this; the answer is at most a little too small.
        farthest: how many times a number that fits the next one may be.
    """
    low, high = 0, most + 1
    tried: dict[int, int] = {}
    number = start
    for _ in range(TRIES):
        plan = plan_at(number)
        tried[number] = needed(plan)
        if plan.verdict is FitVerdict.FITS:
            low = max(low, number)
        else:
            high = min(high, number)
        if high - low <= max(step, low // 16 // step * step):
            break
        number = _next(tried, low, high, plan.gpu.total_bytes, step, second or 8 * low, farthest)
    if low and high in tried and low in tried:  # memory grows ever faster, so the line between the two lies above it
        room = plan.gpu.total_bytes
        low += int((room - tried[low]) / (tried[high] - tried[low]) * (high - low)) // step * step
    return low


def needed(plan: MemoryPlan) -> int:
    """Bytes of a card that the plan takes at the worst end of its bands."""
    return int(plan.reserved_bytes * (1 + plan.band + RESERVED_BAND)) + plan.outside_bytes


def _next(tried: Mapping[int, int], low: int, high: int, room: int, step: int, second: int, farthest: int) -> int:
    """Where the line through two tried numbers meets the room."""
    if low == 0:
        return max(step, high // 2 // step * step)
    if len(tried) == 1:
        return min(second, high - step)
    less, more = sorted(tried)[-2:] if high > max(tried) else (low, high)
    slope = (tried[more] - tried[less]) / (more - less)
    guess = int(low + (room - tried[low]) / slope) if slope > 0 else 2 * low
    guess = min(guess, farthest * low) // step * step
    return min(max(guess, low + step), high - step)


def _remedy(
    simulation: Simulation, card: Gpu, settings: StepSettings, shape: Shape, plan: MemoryPlan
) -> Alternative | None:
    """The first cheaper setting that fits rows of the same length."""
    if plan.verdict is FitVerdict.FITS:
        return None
    for change, changed in changes(settings):
        other = simulation.plan(card, replace(shape, rows=changed.rows), changed)
        if other.verdict is FitVerdict.FITS:
            return Alternative(change, other)
    return None


def _fewer_logits(
    simulation: Simulation, card: Gpu, settings: StepSettings, shape: Shape, plan: MemoryPlan
) -> Alternative | None:
    """Logits at supervised positions only, if they are what the run takes most for and it fits."""
    largest_line = plan.lines[0].cause
    if plan.verdict is not FitVerdict.FITS or settings.logits != "all" or largest_line != "logits and loss":
        return None
    fewer = simulation.plan(card, shape, replace(settings, logits="supervised"))
    return Alternative("logits: supervised", fewer) if fewer.driver_bytes < plan.driver_bytes else None


def _largest_rank(simulation: Simulation, settings: StepSettings, shape: Shape, plan: MemoryPlan) -> int | None:
    """The largest rank beside which the run's own micro-batch fits; all that a rank adds is as long as the rank."""
    if (lora := simulation.spec.lora) is None:
        return None
    own = lora.r
    step = 8 if own % 8 == 0 else 1
    each = _bytes_of_a_rank(simulation, settings, shape, own) * (1 + plan.band + RESERVED_BAND)
    rank = own + math.floor((plan.gpu.total_bytes - needed(plan)) / max(1.0, each)) // step * step
    return max(0, min(rank, WIDEST))


def _bytes_of_a_rank(simulation: Simulation, settings: StepSettings, shape: Shape, own: int) -> float:
    """At most what one more rank than the run's own adds: weights, 16-bit copies, gradients, optimizer state, and what
    the layers keep of the narrow product, which checkpointing holds for one layer of a list at a time.
    """
    adapters = [p for n, p in simulation.model.named_parameters() if p.requires_grad and "lora_" in n]
    copies = 2 if settings.precision else 0
    times = 3 if settings.optimizer == "adamw_torch" else 2  # its foreach kernels hold a root of each second moment
    fixed = sum(p.numel() * (times * p.element_size() + copies) for p in adapters)
    fixed += sum(sum(state_sizes(p, settings.optimizer)) for p in adapters)
    fixed += managed_size(Optimized(tuple(adapters)), settings)
    pairs = len(adapters) / 2 / (LAYERS_AT_LEAST if settings.checkpointing == 1 else 1)
    return fixed / own + NARROW_BYTES * pairs * shape.rows * shape.tokens


def _largest_image(simulation: Simulation, card: Gpu, shape: Shape, plan: MemoryPlan) -> int | None:
    """The largest image budget that fits, among the doublings that the processor knows.

    Where many are left, twice as much is tried first: what a step takes grows no slower from there on, so what lies
    above the card on that line need not be simulated.
    """
    if plan.verdict is not FitVerdict.FITS:
        return 0
    text = shape.tokens - shape.images * shape.soft_tokens
    most = simulation.family.most_soft_tokens or 16 * shape.soft_tokens

    def at(factor: int) -> MemoryPlan:
        soft = shape.soft_tokens * factor
        return simulation.plan(card, replace(shape, soft_tokens=soft, tokens=text + shape.images * soft))

    factors = [factor for factor in (16, 8, 4, 2) if factor * shape.soft_tokens <= most]
    try:
        each = needed(at(2)) - needed(plan) if len(factors) > 2 else 0
        for factor in factors:
            layout_of(simulation.family, simulation.config, shape.soft_tokens * factor, META)
            if needed(plan) + (factor - 1) * each <= card.total_bytes and at(factor).verdict is FitVerdict.FITS:
                return shape.soft_tokens * factor
    except Unavailable:
        return None
    return shape.soft_tokens


META = torch.device("meta")
LAYERS_AT_LEAST, NARROW_BYTES = 6, 8
"""Layers of a list of which one is held at a time, and bytes of a token's narrow product and its gradient, a rank."""
WIDEST = 4096
"""No larger rank is named: the layers themselves are hardly wider."""


def _recommend(
    simulation: Simulation, settings: StepSettings, card: Gpu, shape: Shape, most: int
) -> Recommended | None:
    """The largest micro-batch that divides the effective batch, without checkpointing where that fits too."""
    effective = settings.rows * settings.accumulation
    fitting = [rows for rows in range(min(most, effective), 0, -1) if effective % rows == 0]
    for rows in fitting:
        steps = effective // rows
        changed = replace(settings, accumulation=steps, checkpointing=settings.checkpointing or 1)
        full = simulation.plan(card, replace(shape, rows=rows), changed)
        if full.verdict is not FitVerdict.FITS:
            continue
        changed = replace(changed, checkpointing=0)
        none = simulation.plan(card, replace(shape, rows=rows), changed)
        if none.verdict is FitVerdict.FITS:
            return Recommended(rows, steps, False, none.driver_bytes)
        return Recommended(rows, steps, True, full.driver_bytes)
    return None


def _on_card(simulation: Simulation, card: Gpu, shape: Shape, seen: Mapping[int, MemoryPlan]) -> OnCard:
    plan = simulation.plan(card, shape)
    points = sorted((rows, needed(other)) for rows, other in seen.items())
    (first, least), (last, most) = points[0], points[-1]
    slope = (most - least) / (last - first) if last > first else 0
    room = card.total_bytes - needed(plan)
    rows = shape.rows + math.floor(room / slope) if slope > 0 else shape.rows
    return OnCard(plan, max(0, rows) if plan.verdict is not FitVerdict.FITS else max(shape.rows, rows))
