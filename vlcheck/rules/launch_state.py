"""VLC61x: what a job keeps when it ends, and what its memory has to hold."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, NotApplicable, Severity, Unavailable, rule
from vlcheck.gpus import show_gib
from vlcheck.rules.launch_time import retries_of

if TYPE_CHECKING:
    from vlcheck.evidence.launch import Saving
    from vlcheck.launch.job import Job
    from vlcheck.launch.paths import Output, Resume
    from vlcheck.launch.platforms import Platform
    from vlcheck.memory.host import Host
    from vlcheck.spec import Location, RunSpec

RISK_HOURS = 1.0
"""GPU hours between two checkpoints from which on they are worth a word."""


@rule("VLC610", "memory-short", Severity.WARNING)
def memory_short(
    spec: RunSpec, job: Job, platform: Platform, host: Host, saving_size: int, output: Output, today: date
) -> Iterator[Finding | Examined]:
    """Process, model files and a checkpoint that is being written may take more memory than the job has.

    On some platforms the container's own disk is its memory: a base that is downloaded there counts, while one that is
    read from a mounted bucket, or lies in the image, does not. A bucket that is mounted with Cloud Storage FUSE holds
    what is written to a file in the job's memory until it is closed. What a process with torch and a CUDA context takes
    is assumed, not measured.

    Remedy: weights from a mounted bucket, or the memory that the finding adds up.

    Source: https://cloud.google.com/run/docs/container-contract,
    https://docs.cloud.google.com/run/docs/configuring/jobs/cloud-storage-volume-mounts
    """
    from vlcheck.memory.host import PROCESS_BYTES

    if job.memory_bytes is None:
        raise NotApplicable("the job does not say how much memory it has")
    memory, files = job.memory_bytes.value, _files(spec, job, platform, host, today)
    bucket = output.mount is not None and output.mount.storage == "bucket"
    staged = saving_size if bucket and platform.staged_in_memory is not None else 0
    kept = saving_size * 2 if platform.files_in_memory is not None and output.fate == "lost" else 0
    needed = PROCESS_BYTES + files + staged + kept
    yield Examined(4, "things that are held in memory")
    if needed > memory:
        yield Finding(
            f"the job may need {show_gib(needed)} of memory and has {show_gib(memory)}: process "
            f"{show_gib(PROCESS_BYTES)} (assumed), model files on the container's disk {show_gib(files)}, a checkpoint "
            f"on its way to the bucket {show_gib(staged)}, checkpoints on the container's disk {show_gib(kept)}",
            where=job.memory_bytes.where,
            measured={"needed_bytes": needed, "memory_bytes": memory, "files_bytes": files},
            fix=f"{show_gib(needed)} of memory or more" + (", or weights from a mounted bucket" if files else ""),
        )


@rule("VLC611", "disk-short", Severity.WARNING)
def disk_short(spec: RunSpec, job: Job, host: Host, saving_size: int, output: Output) -> Iterator[Finding | Examined]:
    """The model's files and the run's checkpoints take more than the container's own disk has.

    A base that is named by its Hub id is downloaded to the Hub's cache, which lies on the container's disk unless
    `HF_HOME` puts it under a mount; the download ends when the disk is full, before the first step. What the image
    itself takes of the disk is not counted.

    Remedy: `HF_HOME` under a mount that outlives the job, which also spares the next download; or a larger disk.

    Source: https://docs.runpod.io/api-reference-v2/pods/create-a-pod, https://modal.com/docs/guide/resources,
    https://kubernetes.io/docs/concepts/storage/ephemeral-storage
    """
    if job.disk_bytes is None:
        raise NotApplicable("the job does not say how large its container's disk is")
    files, kept = _downloaded(spec, job, host), saving_size * 2 if output.fate == "lost" and output.mount is None else 0
    yield Examined(2, "things that lie on the disk")
    if files + kept > job.disk_bytes.value:
        yield Finding(
            f"the container's disk has {show_gib(job.disk_bytes.value)}: model files that are downloaded to it take "
            f"{show_gib(files)}, checkpoints {show_gib(kept)}",
            where=job.disk_bytes.where,
            measured={"disk_bytes": job.disk_bytes.value, "files_bytes": files, "checkpoint_bytes": kept},
            fix="HF_HOME under a mount, or a larger disk",
        )


@rule("VLC612", "output-lost", Severity.ERROR, explains=("VLC614",))
def output_lost(job: Job, output: Output) -> Iterator[Finding | Examined]:
    """The run writes to a disk that goes with the job.

    The container's own disk, and volumes that last as long as the job, are gone when it ends, and the adapter with
    them.

    Remedy: mount a bucket or a volume, and put the run's output folder there.

    Source: https://cloud.google.com/run/docs/container-contract, https://kubernetes.io/docs/concepts/storage/volumes
    """
    if output.fate == "unknown":
        raise Unavailable(f"{output.path}: {output.why}", "an absolute path under a mount, or launch.mounts")
    if output.fate == "lost" and output.uploaded is not None:
        raise NotApplicable(f"the result is copied elsewhere at the end ({output.uploaded.value[:60]})")
    yield Examined(len(job.mounts), "mounts")
    yield Examined(1, "output folder")
    if output.fate == "lost":
        yield Finding(
            f"{output.path} is gone when the job ends: {output.why}",
            where=output.where,
            measured={"path": output.path, "mounts": [mount.path for mount in job.mounts]},
            fix="an output folder under a mounted bucket or volume",
        )


@rule("VLC613", "retry-from-scratch", Severity.WARNING)
def retry_from_scratch(job: Job, platform: Platform, resume: Resume, today: date) -> Iterator[Finding | Examined]:
    """The job is retried, and each attempt begins at the first step.

    After an interruption the whole run is paid for again, as often as retries are left; one that is ended by its
    timeout never gets further than the first attempt did.

    Remedy: a program that takes up its checkpoints (`vlcheck train`, `--resume_from_checkpoint`), or no retries.

    Source: https://docs.cloud.google.com/run/docs/configuring/max-retries
    """
    retries, where = retries_of(job, platform, today)
    if resume.kind == "unknown":
        raise Unavailable(f"whether the run resumes is not known: {resume.why}", "name the program in the job")
    yield Examined(1, "number of retries")
    if retries and resume.kind == "no":
        yield Finding(
            f"up to {retries} retries, and {resume.why}: each attempt begins at the first step",
            where=where,
            measured={"retries": retries},
            fix="resume from the newest checkpoint, or no retries",
        )


@rule("VLC614", "resume-finds-nothing", Severity.WARNING)
def resume_finds_nothing(
    job: Job, platform: Platform, resume: Resume, output: Output, today: date
) -> Iterator[Finding | Examined]:
    """The run would resume, but its checkpoints do not outlive the attempt that wrote them.

    A retry starts a new container with an empty disk of its own.

    Remedy: the output folder on a mounted bucket or volume; a copy at the end of the run does not help its retries.

    Source: https://cloud.google.com/run/docs/container-contract
    """
    retries, _ = retries_of(job, platform, today)
    if resume.kind not in ("own", "any") or not retries:
        raise NotApplicable("the run does not resume, or the job is not retried")
    if output.fate == "unknown":
        raise Unavailable(f"{output.path}: {output.why}", "an absolute path under a mount, or launch.mounts")
    yield Examined(1, "output folder")
    if output.fate == "lost":
        yield Finding(
            f"up to {retries} retries look for checkpoints in {output.path}, which each finds empty: {output.why}",
            where=output.where,
            measured={"path": output.path, "retries": retries},
            fix="an output folder under a mounted bucket or volume",
        )


@rule("VLC615", "resumes-any-checkpoint", Severity.WARNING)
def resumes_any_checkpoint(resume: Resume) -> Iterator[Finding | Examined]:
    """The run takes up whatever checkpoint lies in its output folder, whichever run left it there.

    In a bucket that is used again, a new experiment continues an old one, or ends at once because that one was
    finished. transformers takes the checkpoint with the highest number, an incomplete one included.

    Remedy: an output folder of its own for each run; or a program that holds a checkpoint against its run's settings
    and data, as `vlcheck train` does.

    Source: https://huggingface.co/docs/transformers/main_classes/trainer, `get_last_checkpoint`
    """
    if resume.kind == "unknown":
        raise Unavailable(f"whether the run resumes is not known: {resume.why}", "name the program in the job")
    yield Examined(1, "way of resuming")
    if resume.kind == "any":
        yield Finding(
            f"any checkpoint that is found is taken up: {resume.why}",
            where=resume.where,
            fix="an output folder of its own for each run, or `vlcheck train`",
        )


@rule("VLC616", "work-at-risk", Severity.WARNING)
def work_at_risk(spec: RunSpec, job: Job, platform: Platform, saving: Saving) -> Iterator[Finding | Examined]:
    """An interruption costs more than an hour of GPU time.

    Some platforms end jobs with cards before their time: for maintenance, or because the capacity is wanted elsewhere.
    What was learnt since the last checkpoint is then computed, and paid for, again.

    Remedy: more frequent checkpoints; `save_steps` such that they are minutes apart.

    Source: https://docs.cloud.google.com/run/docs/configuring/task-timeout, https://modal.com/docs/guide/preemption
    """
    spot = job.spot is not None and job.spot.value
    if platform.interrupted is None and not spot:
        raise NotApplicable(f"nothing is known to end a job on {platform.title} before its time")
    lost = saving.interval.likely * spec.hardware.count / 3600
    yield Examined(1, "interval between checkpoints")
    if lost > RISK_HOURS:
        told = "the capacity can be taken back" if platform.interrupted is None or spot else platform.interrupted.value
        every = f"a checkpoint every {saving.every:,} steps" if saving.every else "no checkpoint before the end"
        yield Finding(
            f"{every}, after {saving.interval}: an interruption costs up to {lost:.1f} GPU hours, half of that on "
            f"average; {told}",
            where=spec.where("training.save_steps" if saving.every else "training.save_strategy"),
            measured={"gpu_hours": round(lost, 2), "every_steps": saving.every},
            fix="save_steps for a checkpoint every 10 to 30 minutes",
        )


@rule("VLC617", "grace-too-short", Severity.WARNING)
def grace_too_short(job: Job, platform: Platform, saving: Saving) -> Iterator[Finding | Examined]:
    """A checkpoint cannot be written between the signal that ends the job and its end.

    What is not on disk when the signal comes is lost: the last regular checkpoint is then what a retry finds. The
    finding takes the fastest write that the storage is known for, so it is certain of that.

    Remedy: a longer grace period where the platform has one to set, checkpoints at shorter intervals, or a smaller one.

    Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle, vlcheck/launch/platforms.py
    """
    grace, where, told = _grace(job, platform)
    yield Examined(1, "grace period")
    if saving.seconds.low > grace:
        yield Finding(
            f"a checkpoint of {show_gib(saving.size)} takes {saving.seconds}, and the job is given {grace} s "
            f"after SIGTERM{told}",
            where=where,
            measured={"grace_seconds": grace, "least_seconds": round(saving.seconds.low, 1)},
            fix="a longer grace period, or checkpoints at shorter intervals",
        )


def _files(spec: RunSpec, job: Job, platform: Platform, host: Host, today: date) -> int:
    """Bytes of the model's files that lie in the job's memory, unless its image holds them."""
    if platform.files_in_memory is None or platform.files_in_memory.why_unsure(today):
        return 0
    return _downloaded(spec, job, host)


def _downloaded(spec: RunSpec, job: Job, host: Host) -> int:
    """Bytes of the model's files that the job downloads to its container's own disk."""
    from vlcheck.launch.paths import expanded, model_of

    model = model_of(job, spec).value
    cache = job.env.get("HF_HOME") or job.env.get("HF_HUB_CACHE")
    cached = cache is not None and job.mount_of(expanded(cache.value, job)) is not None
    of_hub = not model.startswith(("/", ".", "~", "$")) and "://" not in model
    random = spec.model.weights == "random"
    return host.checkpoint_bytes if of_hub and not cached and not random else 0


def _grace(job: Job, platform: Platform) -> tuple[int, Location, str]:
    if job.grace_seconds is not None:
        return job.grace_seconds.value, job.grace_seconds.where, ""
    if platform.grace is None or not job.whole:
        raise NotApplicable(f"no grace period of {platform.title} is known")
    doubt = platform.grace.doubt and f"; disputed: {platform.grace.doubt}"
    return platform.grace.value, job.where, f" ({platform.grace.source}, read {platform.grace.read}{doubt})"
