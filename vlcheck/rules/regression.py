"""VLC904: what moved since a snapshot was taken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, Severity, Unavailable, rule
from vlcheck.gpus import show_gib

if TYPE_CHECKING:
    from vlcheck.evidence.snapshot import Snapshot
    from vlcheck.spec import RunSpec

SECTIONS = {"adapters": "lora", "labels": "data", "lengths": "data", "memory": "hardware.gpu"}
"""The section of the config that a finding about each subject points at."""
MOST_TOLD = 4


@rule("VLC904", "measured-values-moved", Severity.WARNING)
def measured_values_moved(spec: RunSpec, earlier: Snapshot, snapshot: Snapshot) -> Iterator[Finding | Examined]:
    """What was measured of the run is not what its snapshot says.

    `vlcheck snapshot` keeps the adapted modules, the supervised ids of rows, the rows' lengths and the peak by cause.
    `vlcheck audit --against` measures them again: after an upgrade of a library, or a change of the run, whatever
    differs is named with its value before and now. A run whose labels or adapters moved is another run.

    Remedy: pin the version that moved it, or, if the change is meant, take the snapshot anew.

    Source: https://github.com/huggingface/transformers/blob/main/MIGRATION_GUIDE_V5.md
    """
    from vlcheck.evidence.snapshot import moved

    subjects = [subject for subject in earlier.values if subject in snapshot.values]
    if not subjects:
        raise Unavailable(f"the snapshot holds {', '.join(earlier.values) or 'nothing'}, which cannot be measured here")
    yield Examined(sum(len(earlier.values[subject]) for subject in subjects), "values of the snapshot")
    versions = {name: f"{before} -> {now}" for name, before, now in moved(earlier.versions, snapshot.versions)}
    for subject in subjects:
        changes = list(moved(earlier.values[subject], snapshot.values[subject]))
        if not changes:
            continue
        told = [_told(name, before, now) for name, before, now in changes[:MOST_TOLD]]
        more = f"; and {len(changes) - MOST_TOLD} more" if len(changes) > MOST_TOLD else ""
        yield Finding(
            f"{subject}: {len(changes)} of {len(earlier.values[subject])} values moved: {'; '.join(told)}{more}",
            where=spec.where(SECTIONS.get(subject, "model.id")),
            measured={**{name: [before, now] for name, before, now in changes}, **versions},
            fix="pin what moved it, or take the snapshot anew (vlcheck snapshot)",
        )


def _told(name: str, before: int | str | None, now: int | str | None) -> str:
    """A value before and now, with the difference of two numbers."""
    if name.endswith(" bytes"):
        shown = [show_gib(value) if isinstance(value, int) else "none" for value in (before, now)]
        return f"{name.removesuffix(' bytes')} {shown[0]} -> {shown[1]}"
    if isinstance(before, int) and isinstance(now, int):
        return f"{name} {before:,} -> {now:,} ({now - before:+,})"
    return f"{name} {before or 'none'} -> {now or 'none'}"
