"""Arguments of a job's command, or of its script, that the versions which its image pins no longer take."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from vlcheck.config.defaults import framework_of
from vlcheck.config.foreign import ms_swift, trl
from vlcheck.config.foreign.draft import numbers
from vlcheck.config.foreign.keys import Fate, Gone
from vlcheck.launch.job import Job, Placed
from vlcheck.spec import RunSpec

PROGRAMS: tuple[tuple[re.Pattern[str], Mapping[str, Fate]], ...] = (
    (re.compile(r"\btrl sft\b|(?:^|[/ ])sft(?:_vlm\w*)?\.py\b"), trl.KEYS),
    (re.compile(r"\bswift sft\b|swift/cli/sft\.py"), ms_swift.KEYS),
)
"""Programs whose flags are the arguments of their library, and the table of these."""


def read_by(job: Job) -> bool:
    """Whether anything of the job hands arguments to a library whose table is known."""
    return bool(job.keywords) or _table(job) is not None


def gone_arguments(job: Job) -> Iterator[tuple[Placed[str], str, str]]:
    """Arguments that went: the word that sets it, what is wrong, and what to write in its place."""
    versions = {each.name: each.version for each in job.requirements if each.version}
    table = _table(job) or {}
    said = [(name, f"--{name}", table, word) for name, word in job.flags()]
    said += [(word.value, f"{word.value}=", trl.KEYS, word) for word in job.keywords]
    for name, shown, known, word in said:
        fate = known.get(name)
        if not isinstance(fate, Gone):
            continue
        pinned = versions.get(fate.package, "")
        if pinned and numbers(pinned) >= numbers(fate.since):
            yield word, f"{shown} is no argument of {fate.package} {pinned}, which the job pins", fate.instead


def pinned_version(spec: RunSpec, job: Job) -> str:
    """The version of the run's framework that the job's image pins; empty where it pins none.

    A config in vlcheck's own words has no arguments of a framework.
    """
    row = framework_of(spec)
    if row is None or spec.origin is None:
        return ""
    return next((each.version for each in job.requirements if each.name == row.package and each.version), "")


def _table(job: Job) -> Mapping[str, Fate] | None:
    words = " ".join(word.value for word in job.command)
    return next((table for called, table in PROGRAMS if called.search(words)), None)
