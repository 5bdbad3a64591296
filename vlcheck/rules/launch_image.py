"""VLC62x: what a job's image holds, what it is handed, and who else writes where it writes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, NotApplicable, Severity, Unavailable, rule
from vlcheck.gpus import Gpu

if TYPE_CHECKING:
    from vlcheck.launch.job import Job, Placed
    from vlcheck.launch.paths import Output

DECIDING = ("torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "axolotl", "llamafactory", "ms-swift",
            "unsloth", "vlcheck")  # fmt: skip
"""Packages whose versions decide what a run does."""
CUDA = (((12, 0), (12, 8)), ((10, 0), (12, 8)), ((9, 0), (11, 8)), ((8, 9), (11, 8)), ((8, 6), (11, 1)),
        ((8, 0), (11, 0)), ((7, 5), (10, 0)), ((7, 0), (9, 0)), ((6, 0), (8, 0)))  # fmt: skip
"""Compute capability, and the first CUDA toolkit that compiles for it (docs.nvidia.com/cuda, release notes)."""
LAST_FOR = {6: (12, 9), 7: (12, 9)}
"""The last toolkit for cards of compute capability 6.x and 7.0 (CUDA 13.0 release notes)."""
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|(?:API|ACCESS|PRIVATE)_?KEY)(?:_?\d*)$", re.IGNORECASE
)
"""The end of a variable's name: `TOKENIZER`, `MAX_TOKENS` and `SECRET_ID` name none."""
_SECRET_VALUE = re.compile(r"hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|AKIA[0-9A-Z]{16}|ghp_[A-Za-z0-9]{30,}")
_NO_SECRET = re.compile(r"\$|^\{|^<|^(?:true|false|\d{1,6})$|^/|://|^$", re.IGNORECASE)
_INDEX = re.compile(r"TASK_INDEX|ARRAY_INDEX|COMPLETION_INDEX|NODE_RANK|\bRANK\b", re.IGNORECASE)


@rule("VLC620", "requirements-unpinned", Severity.WARNING)
def requirements_unpinned(job: Job) -> Iterator[Finding | Examined]:
    """A package that decides what the run does is installed in whatever version the day of the build has.

    Arguments go, defaults change, classes are renamed: an image that is built again is another program. The run then
    fails after the image was pushed and the weights were read, or trains something else without a word.

    Remedy: `package==version`, or a lock file that the image installs from.

    Source: https://github.com/huggingface/transformers/releases: `warmup_ratio` went between 5.10 and 5.17
    """
    deciding = [each for each in job.requirements if each.name in DECIDING]
    if not deciding:
        raise NotApplicable("no requirements of the job were read; name them with --requirements")
    yield Examined(len(deciding), "packages")
    loose = [each for each in deciding if not each.pinned]
    if loose:
        yield Finding(
            f"{', '.join(each.text for each in loose)}: each build takes the newest release that this allows",
            where=loose[0].where,
            measured={"unpinned": [each.text for each in loose]},
            fix="package==version for each of them",
        )


@rule("VLC621", "argument-rejected", Severity.ERROR)
def argument_rejected(job: Job) -> Iterator[Finding | Examined]:
    """The job's command sets an argument that the pinned version of its package no longer takes.

    The run ends before its first step, once the image is built, the card is there and the weights are read.

    Remedy: the argument that took its place, or the version that still takes it.

    Source: the tables in vlcheck/config/foreign/, which name the releases between which each argument went
    """
    from vlcheck.launch.arguments import gone_arguments, read_by

    if not read_by(job):
        raise NotApplicable("the command starts no program whose arguments are known")
    yield Examined(len(list(job.flags())), "arguments")
    for word, message, instead in gone_arguments(job):
        yield Finding(message, where=word.where, fix=instead or "leave it out")


@rule("VLC622", "cuda-without-card", Severity.WARNING)
def cuda_without_card(job: Job, job_card: Gpu) -> Iterator[Finding | Examined]:
    """The image's CUDA toolkit has no kernels for the job's card.

    A wheel of torch brings its own toolkit, so an image that installs one of a newer CUDA runs all the same; one that
    takes what its base image has stops at the first kernel.

    Remedy: an image, or a torch wheel, of the toolkit that the finding names.

    Source: https://docs.nvidia.com/cuda/blackwell-compatibility-guide
    """
    from vlcheck.launch.image import cuda_of

    if job_card.amd:
        raise NotApplicable(f"the {job_card.title} has no CUDA")
    told = [(held, version) for held in (job.base, job.image) if held and (version := cuda_of(held.value))]
    if not told:
        raise NotApplicable("no image of the job names its CUDA")
    yield Examined(len(told), "images")
    held, version = told[0]
    least = next((cuda for capability, cuda in CUDA if (job_card.major, job_card.minor) >= capability), (0, 0))
    last = LAST_FOR.get(job_card.major) if (job_card.major, job_card.minor) < (7, 5) else None
    if version < least or (last and version > last):
        bound = (
            f"needs {least[0]}.{least[1]} or later" if version < least else f"was last compiled for by {_dots(last)}"
        )
        yield Finding(
            f"{held.value} has CUDA {_dots(version)}; the {job_card.title} (compute capability {job_card.major}."
            f"{job_card.minor}) {bound}",
            where=held.where,
            measured={"cuda": _dots(version), "compute_capability": f"{job_card.major}.{job_card.minor}"},
            fix=f"CUDA {_dots(least if version < least else last)}",
        )


@rule("VLC623", "secret-in-plain", Severity.WARNING)
def secret_in_plain(job: Job) -> Iterator[Finding | Examined]:
    """A secret stands in the job's file, in a plain variable of the environment.

    Whoever may see the job sees it, as do its logs and the history of the file.

    Remedy: the platform's store of secrets (`--set-secrets`, `secretKeyRef`, `secrets:`), and a new token.

    Source: https://cloud.google.com/run/docs/configuring/jobs/secrets
    """
    if not job.env and not job.command:
        raise NotApplicable("the job sets no variables")
    yield Examined(len(job.env) + len(job.command), "variables and words")
    for name, value in job.env.items():
        named = _SECRET_NAME.search(name) and not _NO_SECRET.search(value.value)
        if named or _SECRET_VALUE.search(value.value):
            yield _told(f"{name} holds a secret in plain text", value)
    for word in job.command:
        if _SECRET_VALUE.search(word.value):
            yield _told("the command holds a secret in plain text", word)


@rule("VLC624", "tasks-share-folder", Severity.WARNING)
def tasks_share_folder(job: Job, output: Output) -> Iterator[Finding | Examined]:
    """Several tasks of the job train at once and write to one folder.

    Each is a run of its own with the same command: they overwrite each other's checkpoints, and the last write wins on
    a mounted bucket, which locks nothing.

    Remedy: one task; several GPUs belong to one task. For several runs, a folder for each by the task's index.

    Source: https://docs.cloud.google.com/run/docs/configuring/jobs/cloud-storage-volume-mounts
    """
    tasks = job.tasks.value if job.tasks is not None else 1
    if tasks < 2 or job.tasks is None:
        raise NotApplicable("the job has one task")
    apart = _INDEX.search(output.path) or any(_INDEX.search(word.value) for word in job.command)
    if output.fate == "unknown" and not apart:
        raise Unavailable(f"{output.path}: {output.why}", "an absolute path under a mount, or launch.mounts")
    yield Examined(tasks, "tasks")
    if apart or output.fate == "lost":
        return
    at_once = min(tasks, job.parallelism.value) if job.parallelism is not None and job.parallelism.value else tasks
    yield Finding(
        f"{tasks} tasks, {at_once} at once, all write to {output.path}",
        where=job.tasks.where,
        measured={"tasks": tasks, "at once": at_once},
        fix="one task, or a folder for each by its index",
    )


def _told(message: str, value: Placed[str]) -> Finding:
    return Finding(message, where=value.where, fix="the platform's store of secrets, and a new token")


def _dots(version: tuple[int, int] | None) -> str:
    return "" if version is None else f"{version[0]}.{version[1]}"
