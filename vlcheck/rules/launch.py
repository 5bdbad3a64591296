"""VLC60x: the machine that a job asks for, and the time that it gives the run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, NotApplicable, Severity, Unavailable, rule
from vlcheck.gpus import GIB, Gpu, UnknownGpu, show_gib
from vlcheck.gpus import gpu as row_of
from vlcheck.rules.launch_time import TimeGiven, time_given

if TYPE_CHECKING:
    from vlcheck.evidence.launch import Saving
    from vlcheck.launch.duration import Duration
    from vlcheck.launch.job import Job
    from vlcheck.launch.paths import Output, Resume
    from vlcheck.launch.platforms import Platform
    from vlcheck.memory.plan import MemoryPlan
    from vlcheck.spec import RunSpec


@rule("VLC601", "job-hardware-differs", Severity.ERROR)
def job_hardware_differs(spec: RunSpec, job: Job, job_card: Gpu | None = None) -> Iterator[Finding | Examined]:
    """The job asks for another card, or another number of cards, than the config's `hardware:` names.

    Memory and speed were judged for the config's cards; the job is started on its own.

    Remedy: make them agree. The job decides what is paid for, so most often the config is to be corrected.

    Source: the job's file and the config
    """
    yield Examined(2, "card and count")
    named = _named(spec)
    if job_card is not None and named is not None and named.name != job_card.name:
        yield Finding(
            f"the job starts on {job_card.title}, the config's hardware names {named.title}",
            where=job.gpu.where if job.gpu else job.where,
            measured={"job": job_card.name, "config": named.name},
            fix=f"hardware: {{gpu: {job_card.name}}}, or the other card in the job",
        )
    count, told = job.gpu_count, spec.sources.get("hardware.count")
    if count is not None and told is not None and count.value != spec.hardware.count:
        yield Finding(
            f"the job has {count.value} GPU{'s' * (count.value != 1)}, the config's hardware {spec.hardware.count}",
            where=count.where,
            measured={"job": count.value, "config": spec.hardware.count},
            fix=f"hardware: {{count: {count.value}}}, or as many in the job",
        )


@rule("VLC602", "job-over-budget", Severity.ERROR)
def job_over_budget(job: Job, job_plan: MemoryPlan) -> Iterator[Finding | Examined]:
    """The run does not fit the card that the job asks for.

    The plan of the worst training step, which VLC302 holds against the config's card, is held against the job's here.

    Remedy: a card that `vlcheck fit` shows to be large enough, or the changes that it lists.

    Source: fixtures/measured of this project: 70 runs on an H100, the worst 0.8 % off.
    """
    from vlcheck.memory.plan import FitVerdict

    yield Examined(len(job_plan.moments), "moments of a step")
    if job_plan.verdict is FitVerdict.OVER:
        yield Finding(
            f"projected peak {show_gib(job_plan.driver_bytes)} (±{job_plan.band:.1%}) exceeds the "
            f"{show_gib(job_plan.gpu.total_bytes)} of the job's {job_plan.gpu.title}",
            where=job.gpu.where if job.gpu else job.where,
            measured={"driver_bytes": job_plan.driver_bytes, "total_bytes": job_plan.gpu.total_bytes},
            fix="a larger card; `vlcheck fit` shows which fits",
        )


@rule("VLC603", "timeout-too-short", Severity.ERROR)
def timeout_too_short(
    job: Job, platform: Platform, duration: Duration, saving: Saving, resume: Resume, output: Output, today: date
) -> Iterator[Finding | Examined]:
    """The job is ended before the run can be through, even if everything goes as fast as it may.

    The least of the projection is held against the job's timeout, or against the platform's default where the job sets
    none. Where attempts that were timed out are retried, and the run goes on from checkpoints that outlive them, it is
    held against that of all attempts together. A step's time is that of an earlier run or of a measured micro-batch
    where there is one, else projected from launches and FLOPs, with the band that the measured runs had.

    Remedy: a timeout above the most of the projection; or checkpoints that outlive the attempt, and more retries.

    Source: https://docs.cloud.google.com/run/docs/configuring/task-timeout
    """
    time = time_given(job, platform, duration, saving, resume, output, today)
    yield Examined(len(duration.parts), "parts of the run")
    if duration.total.low > time.seconds and not time.unsure:
        yield _too_short(job, duration, time)


@rule("VLC604", "timeout-tight", Severity.WARNING)
def timeout_tight(
    job: Job, platform: Platform, duration: Duration, saving: Saving, resume: Resume, output: Output, today: date
) -> Iterator[Finding | Examined]:
    """The job may be ended before the run is through.

    The time that the job gives lies within the projection, between its least and its most; or it is a default of the
    platform that is disputed or was read too long ago to fail a job by.

    Remedy: a timeout above the most of the projection, or the measured step of an earlier run (`--metrics`), which
    narrows it.

    Source: fixtures/measured of this project: 68 of 70 projected steps within their band
    """
    time = time_given(job, platform, duration, saving, resume, output, today)
    yield Examined(len(duration.parts), "parts of the run")
    if duration.total.high > time.seconds and (time.unsure or duration.total.low <= time.seconds):
        yield _too_short(job, duration, time)


@rule("VLC605", "timeout-unset", Severity.WARNING)
def timeout_unset(job: Job, platform: Platform, duration: Duration | None = None) -> Iterator[Finding | Examined]:
    """The job sets no timeout, and the platform's default is short; how long the run takes is not known.

    Remedy: set one: `--task-timeout` of gcloud, `timeoutSeconds`, `timeout` of a Modal function, `MaxRuntimeInSeconds`.

    Source: https://docs.cloud.google.com/run/docs/configuring/task-timeout, https://modal.com/docs/guide/timeouts
    """
    if not job.whole:
        raise NotApplicable("an update leaves the timeout as it was")
    if duration is not None:
        raise NotApplicable("how long the run takes is projected, which VLC603 and VLC604 judge")
    if job.timeout_seconds is None and platform.default_timeout is None:
        raise NotApplicable(f"{platform.title} ends no job that sets no timeout")
    yield Examined(1, "timeout")
    if job.timeout_seconds is None and platform.default_timeout is not None:
        from vlcheck.launch.duration import show_time

        default = platform.default_timeout
        yield Finding(
            f"no task timeout is set: {platform.title} ends the attempt after {show_time(default.value)} "
            f"({default.source}, read {default.read})",
            where=job.where,
            measured={"default_seconds": default.value},
            fix="set the job's timeout",
        )


@rule("VLC606", "timeout-over-maximum", Severity.WARNING)
def timeout_over_maximum(job: Job, platform: Platform, today: date) -> Iterator[Finding | Examined]:
    """The job asks for more time than the platform is known to give a job with a card.

    It is then refused, or ended at the platform's limit. How long that is has changed more than once on Cloud Run.

    Remedy: checkpoints in a folder that outlives the attempt, retries, and a shorter timeout.

    Source: vlcheck/launch/platforms.py, which dates each limit
    """
    longest = platform.longest
    if job.timeout_seconds is None or longest is None:
        raise NotApplicable("the job sets no timeout, or the platform no limit")
    yield Examined(1, "timeout")
    if job.timeout_seconds.value > longest.value:
        from vlcheck.launch.duration import show_time

        unsure = longest.why_unsure(today)
        yield Finding(
            f"a timeout of {show_time(job.timeout_seconds.value)}; {platform.title} gives {show_time(longest.value)} "
            f"({longest.source}, read {longest.read}{unsure and f'; disputed: {unsure}'})",
            where=job.timeout_seconds.where,
            measured={"timeout_seconds": job.timeout_seconds.value, "longest_seconds": longest.value},
            fix="checkpoints, retries and a shorter timeout",
        )


@rule("VLC607", "accelerator-minimum", Severity.ERROR)
def accelerator_minimum(job: Job, platform: Platform, job_card: Gpu, today: date) -> Iterator[Finding | Examined]:
    """The job has fewer CPUs or less memory than the platform demands beside its card.

    The platform refuses the job when it is made, after the image was built and pushed.

    Remedy: the least that the finding names.

    Source: https://cloud.google.com/run/docs/configuring/jobs/gpu
    """
    told = platform.minimums.get(job_card.name)
    if told is None:
        raise NotApplicable(f"no minimum of {platform.title} is known for the {job_card.title}")
    if unsure := told.why_unsure(today):
        raise Unavailable(f"what {platform.title} demands is not certain: {unsure}", "look it up")
    cpu, memory, least = job.cpu, job.memory_bytes, told.value
    if cpu is None and memory is None:
        raise Unavailable("the job says neither how many CPUs nor how much memory it has", "set both in the job")
    yield Examined((cpu is not None) + (memory is not None), "CPUs and memory")
    demanded = f"{platform.title} demands at least {least.cpu:g} CPUs and {least.memory_gib:g} GiB"
    place = f"beside the {job_card.title}; {demanded} ({told.source}, read {told.read})"
    if cpu is not None and cpu.value < least.cpu:
        yield Finding(f"{cpu.value:g} CPUs {place}", where=cpu.where, measured={"cpu": cpu.value},
                      fix=f"{least.cpu:g} CPUs")  # fmt: skip
    if memory is not None and memory.value < least.memory_gib * GIB:
        yield Finding(f"{show_gib(memory.value)} {place}", where=memory.where, measured={"memory_bytes": memory.value},
                      fix=f"{least.memory_gib:g} GiB")  # fmt: skip


@rule("VLC608", "region-without-card", Severity.ERROR)
def region_without_card(job: Job, platform: Platform, job_card: Gpu, today: date) -> Iterator[Finding | Examined]:
    """The platform does not offer the job's card, or not in the job's region.

    Remedy: a region that the finding lists.

    Source: https://cloud.google.com/run/docs/configuring/jobs/gpu
    """
    if not platform.regions:
        raise NotApplicable(f"no regions of {platform.title} are known")
    told = platform.regions.get(job_card.name)
    certain = [each for each in platform.regions.values() if not each.why_unsure(today)]
    if (told is None and len(certain) < len(platform.regions)) or (told is not None and told.why_unsure(today)):
        raise Unavailable(f"what {platform.title} offers where was read too long ago", "look it up")
    yield Examined(1 if told is None else len(told.value), "regions")
    if told is None:
        cards = ", ".join(sorted(platform.regions))
        yield Finding(f"{platform.title} offers no {job_card.title}; known: {cards}",
                      where=job.gpu.where if job.gpu else job.where, fix=f"one of {cards}")  # fmt: skip
    elif job.region is not None and job.region.value not in told.value:
        yield Finding(
            f"{platform.title} offers no {job_card.title} in {job.region.value}; it does in {', '.join(told.value)} "
            f"({told.source}, read {told.read})",
            where=job.region.where,
            fix=told.value[0],
        )


def _named(spec: RunSpec) -> Gpu | None:
    """The card that the config names; None where it names none that has a row."""
    try:
        return None if spec.hardware.gpu is None else row_of(spec.hardware.gpu)
    except UnknownGpu:
        return None


def _too_short(job: Job, duration: Duration, time: TimeGiven) -> Finding:
    from vlcheck.launch.duration import show_time

    total = duration.total
    parts = ", ".join(f"{name} {span}" for name, span in duration.parts.items())
    return Finding(
        f"{time.told}; the run takes {total}: {duration.steps:,} steps of {duration.step} ({duration.basis}); {parts}"
        + "".join(f"; without {each}" for each in duration.left_out),
        where=job.timeout_seconds.where if job.timeout_seconds is not None else job.where,
        measured={"given_seconds": time.seconds, "attempts": time.attempts, "least_seconds": round(total.low),
                  "likely_seconds": round(total.likely), "most_seconds": round(total.high)},
        fix=f"a timeout of {show_time(total.high)} or more",
    )  # fmt: skip
