"""How much time a job gives its run: one attempt's, or that of all attempts where one goes on from the other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from vlcheck.finding import NotApplicable

if TYPE_CHECKING:
    from vlcheck.evidence.launch import Saving
    from vlcheck.launch.duration import Duration
    from vlcheck.launch.job import Job
    from vlcheck.launch.paths import Output, Resume
    from vlcheck.launch.platforms import Platform
    from vlcheck.spec import Location


@dataclass(frozen=True)
class TimeGiven:
    """The time that a run has."""

    seconds: int
    """Of all attempts that count."""
    attempts: int
    """Attempts of which one goes on from the other; 1 where each begins anew."""
    told: str
    """What says so."""
    unsure: str
    """Why no job may fail by it; empty where it may."""


def time_given(
    job: Job, platform: Platform, duration: Duration, saving: Saving, resume: Resume, output: Output, today: date
) -> TimeGiven:  # fmt: skip
    """The time that a job gives its run.

    Raises:
        NotApplicable: where nothing bounds it, or what bounds it is not in the job's file.
    """
    from vlcheck.launch.duration import show_time

    timeout, default = job.timeout_seconds, platform.default_timeout
    if timeout is not None:
        limit, told, unsure = timeout.value, f"the timeout is {show_time(timeout.value)}", ""
    elif not job.whole:
        raise NotApplicable("the job sets no timeout, and what it had before is not told")
    elif default is None:
        raise NotApplicable(f"the job sets no timeout, and {platform.title} has none of its own")
    else:
        limit, unsure = default.value, default.why_unsure(today)
        told = (f"no task timeout is set, and {platform.title}'s default is {show_time(limit)} ({default.source}, "
                f"read {default.read}{unsure and f'; {unsure}'})")  # fmt: skip
    begun = duration.parts.get("starting", saving.seconds).low + duration.parts.get("loading", saving.seconds).low
    goes_on = resume.kind in ("own", "any") and output.fate == "kept" and saving.every > 0
    retried = platform.timeout_retried is not None and not platform.timeout_retried.why_unsure(today)
    attempts = 1
    if goes_on and retried and begun + saving.interval.low < limit:
        attempts += retries_of(job, platform, today)[0]
    told += f", which {attempts} attempts have each" if attempts > 1 else ""
    return TimeGiven(limit * attempts, attempts, told, unsure)


def retries_of(job: Job, platform: Platform, today: date) -> tuple[int, Location]:
    """How often the job is tried again, and where that is said; a default that is not certain counts as none."""
    if job.retries is not None:
        return job.retries.value, job.retries.where
    default = platform.default_retries
    known = job.whole and default is not None and not default.why_unsure(today)
    return (default.value if known and default is not None else 0), job.where
