"""The job of a run whose config describes it itself, under `launch:`; and a run on the cards of its job."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from vlcheck.gpus import GIB, UnknownGpu
from vlcheck.launch.cards import card_of
from vlcheck.launch.job import Job, Mount, Placed, Storage
from vlcheck.spec import ConfigError, Launch, Location, Problem, RunSpec

T = TypeVar("T")
BUCKETS = frozenset(("cloud-run", "sagemaker"))
"""Platforms whose mounted folders are object storage."""


def job_of_config(spec: RunSpec) -> Job:
    """The job that `launch:` and `hardware:` of a config describe.

    Raises:
        ConfigError: if they name no platform.
    """
    launch = spec.launch
    if launch.platform == "local":
        allowed = "allowed: a job file (--job), or launch.platform with the job's other keys"
        raise ConfigError(Problem(spec.where("launch.platform"), f"launch.platform is local; {allowed}"))

    def told(key: str, value: T | None, section: str = "launch") -> Placed[T] | None:
        return None if value is None else Placed(value, spec.where(f"{section}.{key}"))

    kind: Storage = "bucket" if launch.platform in BUCKETS else "volume"
    where = spec.where("launch.mounts")
    return Job(
        platform=launch.platform,
        where=spec.where("launch"),
        gpu=told("gpu", spec.hardware.gpu, "hardware"),
        gpu_count=told("count", spec.hardware.count, "hardware"),
        cpu=told("cpu", None if launch.cpu is None else float(launch.cpu)),
        memory_bytes=told("memory_gib", None if launch.memory_gib is None else int(launch.memory_gib * GIB)),
        timeout_seconds=told("timeout_seconds", launch.timeout_seconds),
        retries=told("max_retries", launch.max_retries),
        grace_seconds=told("grace_seconds", launch.grace_seconds),
        region=told("region", launch.region),
        image=told("image", launch.image),
        tasks=told("tasks", launch.tasks),
        mounts=tuple(Mount(path, kind, where) for path in launch.mounts or ()),
        mounts_told=launch.mounts is not None,
    )


def on_job(spec: RunSpec, job: Job) -> RunSpec:
    """The run as its job starts it: on the job's cards where the config names none, with nothing left of `launch:` but
    the platform, since the job is judged in its place.
    """
    hardware, sources = spec.hardware, dict(spec.sources)
    wanted: dict[str, Any] = {}
    placed: dict[str, Location] = {}
    if hardware.gpu is None and hardware.memory_gib is None and job.gpu is not None:
        try:
            wanted["gpu"] = card_of(job.platform, job.gpu.value).name
            placed["gpu"] = job.gpu.where
        except UnknownGpu:
            pass
    if "hardware.count" not in sources and job.gpu_count is not None and 1 <= job.gpu_count.value <= 4096:
        wanted["count"], placed["count"] = job.gpu_count.value, job.gpu_count.where
    sources |= {f"hardware.{key}": where for key, where in placed.items()}
    platform: Any = job.platform
    return replace(spec, hardware=replace(hardware, **wanted), launch=Launch(platform=platform), sources=sources)
