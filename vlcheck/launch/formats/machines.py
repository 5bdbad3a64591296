"""Jobs that order machines: what an instance type says of a job, and several machines that train together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vlcheck.launch.cards import INSTANCES
from vlcheck.launch.job import Job, Placed


def with_instance(job: Job, kind: Placed[str] | None, *, whole_machine: bool) -> Job:
    """A job with what its instance type says of card, CPUs and memory.

    Args:
        whole_machine: the job has all of the instance, not a part of it.
    """
    row = INSTANCES.get(kind.value.removeprefix("ml.")) if kind is not None else None
    if row is None or kind is None:
        unknown = (f"no row describes the instance {kind.value}",) if kind is not None else ()
        return replace(job, remarks=(*job.remarks, *unknown))
    told: dict[str, Any] = {"gpu": Placed(row.gpu, kind.where)}
    if whole_machine:
        told |= {"gpu_count": Placed(row.count, kind.where), "cpu": Placed(float(row.cpu), kind.where),
                 "memory_bytes": Placed(row.memory_gib * 2**30, kind.where)}  # fmt: skip
    return replace(job, **told)


def times(job: Job, machines: Placed[int] | None) -> Job:
    """A job on several machines: all their cards train together."""
    if machines is None or machines.value < 2 or job.gpu_count is None:
        return job
    return replace(job, gpu_count=Placed(job.gpu_count.value * machines.value, machines.where))
