"""Where a job's run leaves its output, and whether it takes up what an earlier attempt left there."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from vlcheck.launch.job import Job, Mount, Placed
from vlcheck.launch.platforms import Platform
from vlcheck.spec import Location, RunSpec

Fate: TypeAlias = Literal["kept", "lost", "unknown"]
Resuming: TypeAlias = Literal["own", "any", "no", "unknown"]
"""Whether a run that starts again goes on: with its own checkpoints only; with whatever lies in its folder; not at all;
or nobody can tell."""

OUTPUTS = ("output_dir", "output", "out_dir", "output_path", "save_dir", "checkpoint_dir")
MODELS = ("model_id", "model_name_or_path", "base_model", "model_path", "model_name", "model")
URLS = ("gs://", "s3://", "hf://", "r2://", "az://", "https://")
_UPLOADING = re.compile(r"out|save|upload|dest|export|push|bucket|gcs|s3")
_UPLOADS = re.compile(r"gsutil|gcloud storage|aws s3 |rclone|huggingface-cli upload|\bhf upload|push_to_hub")
_VARIABLE = re.compile(r"\$\((\w+)\)|\$\{(\w+)\}|\$(\w+)")
_FRAMEWORKS = re.compile(r"\btrl sft\b|\baxolotl train\b|axolotl\.cli\.train|llamafactory-cli train|\bswift sft\b")
_TAKES_ANY = ("resume_from_checkpoint", "auto_resume_from_checkpoints")


@dataclass(frozen=True)
class Output:
    """The folder that a run writes to, as the job sees it."""

    path: str
    where: Location
    fate: Fate
    """Whether what it holds is still there when the job has ended."""
    why: str
    mount: Mount | None = None
    uploaded: Placed[str] | None = None
    """What says that the result is copied elsewhere once the run is through."""


@dataclass(frozen=True)
class Resume:
    """What becomes of a run that is started again."""

    kind: Resuming
    why: str
    where: Location


def expanded(text: str, job: Job) -> str:
    """A text with the variables put in whose values stand in the job."""

    def value(use: re.Match[str]) -> str:
        held = job.env.get(use[1] or use[2] or use[3])
        return use[0] if held is None else held.value

    return _VARIABLE.sub(value, text)


def output_of(job: Job, spec: RunSpec, platform: Platform) -> Output:
    """Where the run writes, told by the job's command, else by the config."""
    said = job.flag(*OUTPUTS)
    if said is None or not said.value:
        said = Placed(spec.training.output_dir, spec.where("training.output_dir"))
    path = expanded(said.value, job)
    relative = not path.startswith(("/", "~"))
    if relative and job.workdir is not None and not path.startswith(URLS):
        path, relative = posixpath.join(expanded(job.workdir.value, job), path), False
    mount = None if relative else job.mount_of(path)
    fate, why = _fate(job, platform, path, relative, mount)
    return Output(path, said.where, fate, why, mount, _uploaded(job))


def _fate(job: Job, platform: Platform, path: str, relative: bool, mount: Mount | None) -> tuple[Fate, str]:
    """What becomes of a folder, and why."""
    known = job.mounts_told and not (relative and job.mounts)
    unknown = "launch.mounts does not say which folders outlive the job"
    if relative and job.mounts_told:
        unknown = "the path is relative, and the folder that the command starts in is not told"
    table: tuple[tuple[bool, Fate, str], ...] = (
        (path.startswith(URLS), "kept", "it is no folder but an address"),
        ("$" in path or "{" in path, "unknown", "the path is known only when the job runs"),
        (platform.disk_stays, "kept", "the machine's disk stays"),
        (mount is None and not known, "unknown", unknown),
        (mount is None, "lost", "no mount holds it: it lies on the container's own disk"),
    )
    if (found := next((row for row in table if row[0]), None)) is not None or mount is None:
        return ("unknown", unknown) if found is None else found[1:]
    if mount.read_only:
        return "lost", f"{mount.path} is mounted read-only"
    fates: dict[str, tuple[Fate, str]] = {"unknown": ("unknown", "is not told what it is"),
                                          "memory": ("lost", "is the job's own memory"),
                                          "scratch": ("lost", "goes with the job")}  # fmt: skip
    fate, why = fates.get(mount.storage, ("kept", "outlives the job"))
    return fate, f"{mount.path} {why}"


def model_of(job: Job, spec: RunSpec) -> Placed[str]:
    """The model that the job loads: a Hub id, a folder of the container, or an address."""
    said = job.flag(*MODELS)
    if said is None or not said.value:
        return Placed(spec.model.id, spec.where("model.id"))
    return Placed(expanded(said.value, job), said.where)


def resume_of(job: Job, spec: RunSpec) -> Resume:
    """Whether an attempt goes on where the one before it ended."""
    if job.resumes_any is not None:
        return Resume("any", job.resumes_any.value, job.resumes_any.where)
    said = next(((name, value) for name, value in job.flags() if name in _TAKES_ANY), None)
    if said is not None:
        name, value = said
        kinds: dict[str, Resuming] = {**dict.fromkeys(("false", "no", "none"), "no"),
                                      **dict.fromkeys(("", "true", "yes", "latest", "auto"), "any")}  # fmt: skip
        return Resume(kinds.get(value.value.lower(), "unknown"), f"--{name} {value.value}".rstrip(), value.where)
    words = " ".join(word.value for word in job.command)
    if re.search(r"\bvlcheck train\b", words) or (not job.command and spec.own_loop):
        return Resume("own", "vlcheck train takes up its own run's checkpoints", job.where)
    keys = {key.key for key in spec.origin.idle} if spec.origin is not None else set()
    read = posixpath.basename(spec.where("").file)
    others = [word.value for word in job.command if word.value.endswith((".yaml", ".yml", ".json"))]
    if any(posixpath.basename(other) != read for other in others):
        return Resume("unknown", f"{others[0]}, which the command names, was not read", job.where)
    if _FRAMEWORKS.search(words) and not set(_TAKES_ANY) & keys:
        return Resume("no", "the command and the config say nothing of resuming", job.command[0].where)
    return Resume("unknown", "whether the job's program resumes is its own affair", job.where)


def _uploaded(job: Job) -> Placed[str] | None:
    for name, value in job.flags():
        if _UPLOADING.search(name.lower()) and expanded(value.value, job).startswith(URLS):
            return value
    return next((word for word in job.command if _UPLOADS.search(word.value)), None)
