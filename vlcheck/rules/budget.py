"""VLC3xx: does the run fit its card, and does it use it?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, Json, NotApplicable, Severity, rule
from vlcheck.gpus import GIB, show_gib

if TYPE_CHECKING:
    from vlcheck.gpus import Gpu
    from vlcheck.memory.alternatives import Alternative
    from vlcheck.memory.host import Host
    from vlcheck.memory.plan import MemoryPlan
    from vlcheck.spec import RunSpec

EMPTY = 0.5
"""A card that is used less than this could take a larger micro-batch."""


@rule("VLC302", "over-budget", Severity.ERROR)
def over_budget(
    spec: RunSpec, memory_plan: MemoryPlan, cheapest_fit: Alternative | None
) -> Iterator[Finding | Examined]:
    """The projected peak exceeds what the card offers.

    The projection runs a real training step of the real model without storage and follows every tensor; what
    counts is the worst moment of a step, and what the card's driver, the CUDA context and a paged optimizer
    take beside it. A run that exceeds the card stops in its first steps, or when the first long row comes.

    Remedy: the change that the finding names is the first, in the order of what it costs, under which the run
    fits: logits at supervised positions only, a paged 8-bit optimizer, checkpointing, a smaller micro-batch
    with more accumulation. `vlcheck fit` shows the ledger.

    Source: fixtures/measured of this project: 70 runs on an H100, the worst 0.8 % off.
    """
    from vlcheck.memory.plan import FitVerdict

    yield Examined(len(memory_plan.moments), "moments of a step")
    if memory_plan.verdict is FitVerdict.OVER:
        yield Finding(_comparison(memory_plan, "exceeds"), where=spec.where("hardware.gpu"),
                      measured=_ledger(memory_plan), fix=_remedy(cheapest_fit))  # fmt: skip


@rule("VLC303", "tight-budget", Severity.WARNING)
def tight_budget(
    spec: RunSpec, memory_plan: MemoryPlan, cheapest_fit: Alternative | None
) -> Iterator[Finding | Examined]:
    """The run fits only within the projection's error band.

    The projection's errors were measured, and the band that it prints is wider where something about the run
    was not: another card, an attention package, several GPUs. Within the band a longer row or another
    fragmentation decides.

    Remedy: leave more room; the finding names the cheapest change that does. Or measure: `vlcheck probe` on the
    machine itself.

    Source: fixtures/measured of this project.
    """
    from vlcheck.memory.plan import FitVerdict

    yield Examined(len(memory_plan.moments), "moments of a step")
    if memory_plan.verdict is FitVerdict.TIGHT:
        yield Finding(_comparison(memory_plan, "is too near to"), where=spec.where("hardware.gpu"),
                      measured=_ledger(memory_plan), fix=_remedy(cheapest_fit))  # fmt: skip


@rule("VLC306", "checkpointing-off", Severity.ERROR, explains=("VLC302", "VLC303"))
def checkpointing_off(
    spec: RunSpec, memory_plan: MemoryPlan, other_checkpointing: MemoryPlan | None = None
) -> Iterator[Finding | Examined]:
    """Gradient checkpointing is off, and the run fits only with it.

    Without checkpointing every activation waits for the backward pass. With it one layer's are there at a
    time, for about a third more computation.

    Remedy: `gradient_checkpointing: true`, with `use_reentrant: false`.

    Source: https://arxiv.org/abs/1604.06174
    """
    from vlcheck.memory.plan import FitVerdict

    if spec.training.gradient_checkpointing:
        raise NotApplicable("checkpointing is on")
    assert other_checkpointing is not None, "simulated for every run without checkpointing"
    yield Examined(2, "plans, with and without checkpointing")
    if memory_plan.verdict is not FitVerdict.FITS and other_checkpointing.verdict is FitVerdict.FITS:
        yield Finding(
            f"without checkpointing {show_gib(memory_plan.driver_bytes)}, with it "
            f"{show_gib(other_checkpointing.driver_bytes)} of {show_gib(memory_plan.gpu.total_bytes)}",
            where=spec.where("training.gradient_checkpointing"),
            measured={
                "activations_bytes": memory_plan.of("activations"),
                "with_checkpointing_bytes": other_checkpointing.driver_bytes,
            },
            fix="gradient_checkpointing: true",
        )


@rule("VLC307", "checkpointing-spare", Severity.NOTE)
def checkpointing_spare(
    spec: RunSpec, memory_plan: MemoryPlan, other_checkpointing: MemoryPlan | None = None
) -> Iterator[Finding | Examined]:
    """Gradient checkpointing is on, and the run fits without it.

    Checkpointing computes every layer twice in order to save memory that this card has.

    Remedy: switch it off, or spend the room on a larger micro-batch; `vlcheck fit` weighs both.

    Source: on an H100, a step of Gemma 4 31B took 1.5 s instead of 2.3 s without it (fixtures/measured).
    """
    from vlcheck.memory.plan import FitVerdict

    if not spec.training.gradient_checkpointing:
        raise NotApplicable("checkpointing is off")
    _needs_rows(memory_plan)
    assert other_checkpointing is not None, "simulated where rows are known"
    yield Examined(2, "plans, with and without checkpointing")
    if memory_plan.verdict is FitVerdict.FITS and other_checkpointing.verdict is FitVerdict.FITS:
        yield Finding(
            f"without checkpointing the run takes {show_gib(other_checkpointing.driver_bytes)} of "
            f"{show_gib(memory_plan.gpu.total_bytes)}",
            where=spec.where("training.gradient_checkpointing"),
            measured={"with_bytes": memory_plan.driver_bytes, "without_bytes": other_checkpointing.driver_bytes},
            fix="gradient_checkpointing: false, or a larger micro-batch; see `vlcheck fit`",
        )


@rule("VLC308", "phase-too-large", Severity.WARNING)
def phase_too_large(spec: RunSpec, memory_plan: MemoryPlan, host: Host, gpu: Gpu) -> Iterator[Finding | Examined]:
    """Loading or merging needs more than the card or the job has.

    Training is not the only phase. Some platforms count a container's files against its memory, so that the
    downloaded checkpoint takes the job's memory; and merging needs the whole base in 16 bits, on the card or in
    the host's memory.

    Remedy: more memory for the job, or weights from a mounted bucket; merge on another machine.

    Source: https://cloud.google.com/run/docs/container-contract
    """
    job = int(spec.launch.memory_gib * GIB) if spec.launch.memory_gib is not None else None
    loading = memory_plan.moments.get("loading", 0) + memory_plan.gpu.context_bytes
    yield Examined(3, "phases: loading, host, merging")
    if loading > gpu.total_bytes:
        yield Finding(
            f"loading takes {show_gib(loading)} of {show_gib(gpu.total_bytes)} on {gpu.title}",
            where=spec.where("hardware.gpu"),
            measured={"loading_bytes": loading},
        )
    if job is not None and host.memory_bytes > job:
        yield Finding(
            f"the job needs {show_gib(host.memory_bytes)} of main memory, checkpoint files included, and has "
            f"{show_gib(job)}",
            where=spec.where("launch.memory_gib"),
            measured={"memory_bytes": host.memory_bytes, "checkpoint_bytes": host.checkpoint_bytes},
            fix=f"launch: {{memory_gib: {-(-host.memory_bytes // GIB)}}}, or weights from a mounted bucket",
        )
    if host.merge_bytes + gpu.context_bytes > gpu.total_bytes and job is not None and host.merge_bytes > job:
        yield Finding(
            f"merging takes {show_gib(host.merge_bytes)}; the card has {show_gib(gpu.total_bytes)}, the job "
            f"{show_gib(job)}",
            where=spec.where("launch.memory_gib"),
            measured={"merge_bytes": host.merge_bytes},
            fix="merge on a machine with more memory",
        )


@rule("VLC310", "idle-card", Severity.NOTE)
def idle_card(spec: RunSpec, memory_plan: MemoryPlan) -> Iterator[Finding | Examined]:
    """The card stays mostly empty: a larger micro-batch would train faster.

    A QLoRA step expands every 4-bit weight once for each micro-batch, however few rows it holds. With one row
    at a time most of a step is spent on that.

    Remedy: a larger micro-batch and fewer accumulation steps, for the same effective batch; `vlcheck fit` names
    the largest that fits.

    Source: on an H100, Gemma 4 31B took 2.2 s a row in micro-batches of 1 and 0.45 s in those of 16
    (fixtures/measured).
    """
    _needs_rows(memory_plan)
    yield Examined(1, "plan")
    share = memory_plan.driver_bytes / memory_plan.gpu.total_bytes
    if share < EMPTY and spec.training.gradient_accumulation_steps > 1:
        yield Finding(
            f"{share:.0%} of {memory_plan.gpu.title} are used in micro-batches of {memory_plan.shape.rows}",
            where=spec.where("training.per_device_train_batch_size"),
            measured={"used_bytes": memory_plan.driver_bytes, "total_bytes": memory_plan.gpu.total_bytes},
            fix="a larger per_device_train_batch_size with fewer gradient_accumulation_steps; see `vlcheck fit`",
        )


def _needs_rows(plan: MemoryPlan) -> None:
    """No advice to use more memory rests on rows that nobody has read.

    Raises:
        NotApplicable: where neither the rows nor a limit of their length is known.
    """
    from vlcheck.memory.shape import Basis

    if plan.shape.basis is Basis.ASSUMED:
        raise NotApplicable("how long rows are is assumed, which is no ground to use more memory; set data.max_length")


def _comparison(plan: MemoryPlan, verb: str) -> str:
    causes = ", ".join(f"{line.cause} {show_gib(line.size)}" for line in plan.lines[:3])
    return (
        f"projected peak {show_gib(plan.driver_bytes)} (±{plan.band:.1%}) {verb} the "
        f"{show_gib(plan.gpu.total_bytes)} of {plan.gpu.title} ({plan.gpu.basis}) at {plan.shape}; {causes}"
        + "".join(f"; {each}" for each in plan.shape.assumptions)
    )


def _ledger(plan: MemoryPlan) -> dict[str, Json]:
    return {
        "driver_bytes": plan.driver_bytes,
        "reserved_bytes": plan.reserved_bytes,
        "allocated_bytes": plan.allocated_bytes,
        "total_bytes": plan.gpu.total_bytes,
        "moment": plan.moment,
    }


def _remedy(found: Alternative | None) -> str:
    if found is None:
        return "a larger card, a lower rank, or a quantised base: see `vlcheck fit`"
    return f"{found.change}: {show_gib(found.plan.driver_bytes)}"
