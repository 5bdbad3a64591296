"""The job of a run as evidence for rules; one function a name, as in `vlcheck.evidence.collectors`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import date

from vlcheck.finding import NotApplicable, Unavailable, collector
from vlcheck.gpus import Gpu, UnknownGpu
from vlcheck.launch.cards import card_of
from vlcheck.launch.duration import (
    BAND,
    BUCKET_RATE,
    DISK_RATE,
    EARLIER_BAND,
    FORWARD,
    UNMEASURED_BAND,
    Duration,
    Span,
    StepWork,
    banded,
    micro_batch,
    moved,
    steps_of,
)
from vlcheck.launch.job import Job
from vlcheck.launch.measured import MEASURED_BAND, measured_step
from vlcheck.launch.paths import Output, Resume, output_of, resume_of
from vlcheck.launch.platforms import Platform, platform_of
from vlcheck.memory.host import Host
from vlcheck.memory.plan import MemoryPlan
from vlcheck.memory.probe import flops_of
from vlcheck.memory.project import Simulation
from vlcheck.memory.shape import Shape
from vlcheck.processing.lengths import Lengths
from vlcheck.spec import RunSpec

STARTING = Span(20, 60, 300)
"""Seconds until a container has imported its libraries and built its model: assumed; 2 to 4 s of it were measured."""
FIRST_STEP = Span(0.5, 4, 30)
"""What the first step takes longer: kernels are compiled and chosen (0.5 to 8 s were measured)."""
SEVERAL_GPUS = 1.2
"""Factor of a step on several GPUs: 1.27 s became 1.52 on two H100 (two-gpus-2026-11-27.jsonl)."""


@dataclass(frozen=True)
class Saving:
    """Checkpoints of a run."""

    size: int
    """Bytes of one."""
    seconds: Span
    """Until one is written where the job puts it."""
    every: int
    """Optimizer steps between two; 0 where none is written before the end."""
    interval: Span
    """Seconds between two, or of the whole run where there are none."""


@collector("reading the job")
def job() -> Job:
    """The job that starts the run.

    Raises:
        NotApplicable: where none was handed in.
    """
    raise NotApplicable("no job is judged")


@collector("reading the steps of an earlier run")
def earlier_seconds() -> float:
    """Seconds of an optimizer step in an earlier run of the same settings on the same card.

    Raises:
        NotApplicable: where none was handed in.
    """
    raise NotApplicable("no earlier run was named")


@collector("looking at the calendar")
def today() -> date:
    """The day on which facts about platforms are weighed."""
    return date.today()


@collector("looking up the platform")
def platform(job: Job) -> Platform:
    """What the job's platform does."""
    return platform_of(job.platform)


@collector("looking up the job's card")
def job_card(job: Job) -> Gpu:
    """The kind of card that the job asks for.

    Raises:
        NotApplicable: if it names none.
        Unavailable: if no row describes it.
    """
    if job.gpu is None:
        raise NotApplicable("the job names no card")
    try:
        return card_of(job.platform, job.gpu.value)
    except UnknownGpu as unknown:
        raise Unavailable(f"the job's card: {unknown}", "name the card in hardware.gpu") from unknown


@collector("finding where the job writes")
def output(job: Job, spec: RunSpec, platform: Platform) -> Output:
    """The folder that the run writes to, as the job sees it."""
    return output_of(job, spec, platform)


@collector("finding out whether the job resumes")
def resume(job: Job, spec: RunSpec) -> Resume:
    """Whether an attempt goes on where the one before it ended."""
    return resume_of(job, spec)


@collector("simulating a step on the job's card")
def job_plan(job_card: Gpu, gpu: Gpu, simulation: Simulation) -> MemoryPlan:
    """The worst step of the run on the card that the job asks for.

    Raises:
        NotApplicable: if it is the card that the config names, which other rules judge.
    """
    if job_card == gpu:
        raise NotApplicable("the job's card is the config's, which VLC302 and VLC303 judge")
    return simulation.plan(job_card)


@collector("counting what a step computes")
def step_work(simulation: Simulation, memory_plan: MemoryPlan) -> StepWork:
    """What a micro-batch of middling rows asks of its card."""
    return work_of(simulation, memory_plan.shape.typical or memory_plan.shape)


def work_of(simulation: Simulation, shape: Shape) -> StepWork:
    """What a micro-batch of a shape asks of its card."""
    matrices = [p for n, p in simulation.model.named_parameters() if p.requires_grad and "lora_" in n and p.dim() >= 2]
    text = simulation.config.get("text_config") or simulation.config
    width = (text.get("num_attention_heads") or 0) * (text.get("head_dim") or 0)
    attention = 12 * shape.rows * shape.tokens**2 * width * (text.get("num_hidden_layers") or 0)
    products = flops_of(simulation.model, simulation.family, shape)
    return StepWork(len(matrices), float(products + attention), simulation.settings.checkpointing, shape.rows)


@collector("projecting how long the job runs")
def duration(  # noqa: PLR0913, PLR0917  one parameter a piece of evidence
    spec: RunSpec,
    gpu: Gpu,
    memory_plan: MemoryPlan,
    step_work: StepWork,
    host: Host,
    lengths: Lengths,
    saving_size: int,
    output: Output,
    job_card: Gpu | None = None,
    earlier_seconds: float | None = None,
) -> Duration:
    """One attempt from its first second to the saved adapter.

    Raises:
        Unavailable: if nobody knows how many rows a pass has.
    """
    training, gpus = spec.training, spec.hardware.count
    micro, basis = _micro_batch(spec, job_card or gpu, memory_plan, step_work)
    step = micro * (training.gradient_accumulation_steps * (SEVERAL_GPUS if gpus > 1 else 1))
    if earlier_seconds is not None:
        step = banded(earlier_seconds, EARLIER_BAND)
        basis = f"an earlier run's median step, off by a factor of {EARLIER_BAND} at most"
    steps, counted = _steps(spec, lengths)
    whole = step * steps
    if training.early_stopping_patience is not None:
        whole, counted = replace(whole, low=0.0), f"{counted}; it may stop early"
    parts = {
        "starting": STARTING,
        "loading": moved(host.checkpoint_bytes, BUCKET_RATE),
        "compiling": FIRST_STEP,
        "training": whole,
    }
    left_out = []
    each = _evaluation(spec, micro)
    if training.eval_strategy != "no" and each is None:
        generating = training.metric_for_best_model == "accuracy"
        left_out.append(
            "evaluations, which generate answers" if generating else "evaluations, whose rows are not known"
        )
    elif training.eval_strategy != "no" and each is not None:
        parts["evaluating"] = each * _evaluations(spec, steps)
    if every := _save_every(spec, steps):
        parts["saving"] = _written(saving_size, output) * (steps // every)
    return Duration(parts=parts, step=step, steps=steps, basis=f"{basis}; {counted}", left_out=tuple(left_out))


@collector("adding up a checkpoint")
def saving_size(spec: RunSpec, host: Host) -> int:
    """Bytes of one checkpoint: what trains, and the optimizer's state.

    Adam's is two values a weight, as wide as it or of 8 bits; Adafactor's rows and columns are little beside it.
    """
    name = spec.training.optim
    if name in ("sgd", "adafactor"):
        return host.adapter_bytes
    return host.adapter_bytes + 2 * (host.trained if "8bit" in name else host.adapter_bytes)


@collector("projecting how long a checkpoint takes")
def saving(spec: RunSpec, duration: Duration, saving_size: int, output: Output) -> Saving:
    """What a checkpoint holds, how long it takes to write, and how far two of them are apart."""
    every = _save_every(spec, duration.steps)
    every = every if every < duration.steps else 0
    interval = duration.step * every if every else duration.total
    return Saving(saving_size, _written(saving_size, output), every, interval)


def _micro_batch(spec: RunSpec, card: Gpu, plan: MemoryPlan, work: StepWork) -> tuple[Span, str]:
    quantised = spec.quantization is not None and spec.quantization.load_in_4bit
    shape = plan.shape.typical or plan.shape
    if quantised and work.checkpointing == 1 and (spec.lora and spec.lora.target_modules) == "all-linear":
        found = measured_step(spec.model.id, card.name, shape.rows, shape.tokens)
        if found is not None:
            basis = f"{found.seconds:g} s measured for {found.rows} x {found.tokens} tokens on the {card.title}"
            return banded(found.seconds, MEASURED_BAND), f"{basis}, off by a factor of {MEASURED_BAND} at most"
    factor = BAND if card.measured else UNMEASURED_BAND
    return micro_batch(work, card), f"projected for the {card.title}, off by a factor of {factor} at most"


def _steps(spec: RunSpec, lengths: Lengths) -> tuple[int, str]:
    """Optimizer steps of the run, and what they were counted from."""
    training = spec.training
    if training.max_steps > 0:
        return training.max_steps, "max_steps"
    known = len(lengths.rows) if lengths.rows and not lengths.unread else None
    rows = known if known is not None else spec.data.train_samples
    if rows is None:
        raise Unavailable(
            "how many rows the training split has is not known, so neither is how long the run takes",
            "set data.train_samples or training.max_steps, or give the data",
        )
    batch = training.per_device_train_batch_size * training.gradient_accumulation_steps * spec.hardware.count
    told = f"{rows:,} rows that were read" if known is not None else f"the {rows:,} rows of data.train_samples"
    return steps_of(rows, batch=batch, epochs=training.num_train_epochs), told


def _evaluation(spec: RunSpec, micro: Span) -> Span | None:
    """Seconds of one evaluation by loss; one that generates answers takes longer, so its most is not bounded."""
    rows = spec.data.eval_samples
    if rows is None or spec.training.metric_for_best_model == "accuracy":
        return None
    batches = math.ceil(rows / (spec.training.per_device_eval_batch_size * spec.hardware.count))
    return micro * (FORWARD * batches)


def _evaluations(spec: RunSpec, steps: int) -> int:
    training = spec.training
    if training.eval_strategy == "epoch":
        return max(1, math.ceil(training.num_train_epochs))
    return steps // _whole(training.eval_steps or training.logging_steps, steps)


def _save_every(spec: RunSpec, steps: int) -> int:
    """Optimizer steps between two checkpoints; 0 where none is written before the end."""
    training = spec.training
    if training.save_strategy == "no":
        return 0
    if training.save_strategy == "steps":
        return _whole(training.save_steps, steps)
    return max(1, steps // max(1, math.ceil(training.num_train_epochs)))


def _whole(every: float, steps: int) -> int:
    return max(1, int(every if every >= 1 else math.ceil(every * steps)))


def _written(size: int, output: Output) -> Span:
    bucket = output.mount is not None and output.mount.storage == "bucket"
    return moved(size, BUCKET_RATE if bucket else DISK_RATE)


LAUNCH_COLLECTORS = (
    job, earlier_seconds, today, platform, job_card, output, resume, job_plan, step_work, duration, saving_size, saving,
)  # fmt: skip
