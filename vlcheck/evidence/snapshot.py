"""What an audit measures of a run, kept in a file, so that a later audit can tell what moved."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from vlcheck.collators.batch import Candidate
from vlcheck.collators.probes import built_in
from vlcheck.config.reading.kept import read_kept
from vlcheck.data.conversation import Conversation
from vlcheck.finding import NotApplicable, Unavailable, collector
from vlcheck.memory.plan import MemoryPlan
from vlcheck.model.modules import ModuleTable
from vlcheck.processing.labels import IGNORE_INDEX
from vlcheck.processing.lengths import Lengths
from vlcheck.spec import RunSpec
from vlcheck.versions import installed

SCHEMA, VERSION = "vlcheck-snapshot", 1

Values: TypeAlias = Mapping[str, int | str]


@dataclass(frozen=True)
class Snapshot:
    """Measured values of a run by subject; a subject that could not be measured is left out."""

    model: str
    versions: Mapping[str, str]
    values: Mapping[str, Values]


@collector("measuring what a snapshot holds")
def snapshot(
    spec: RunSpec,
    modules: ModuleTable | None = None,
    candidate: Candidate | None = None,
    conversations: tuple[Conversation, ...] = (),
    lengths: Lengths | None = None,
    memory_plan: MemoryPlan | None = None,
) -> Snapshot:
    """Adapters, supervised ids, row lengths and the peak by cause, in bytes, as this machine's libraries make them.

    Raises:
        Unavailable: if none of them can be had.
    """
    measured = {
        "adapters": None if modules is None else _adapters(modules),
        "labels": None if candidate is None else _labels(candidate, conversations, spec.data.instruction),
        "lengths": None if lengths is None or not lengths.rows else _lengths(lengths),
        "memory": None if memory_plan is None else _memory(memory_plan),
    }
    values = {subject: found for subject, found in measured.items() if found}
    if not values:
        raise Unavailable("nothing that a snapshot holds could be measured; see the rules that were skipped")
    return Snapshot(spec.model.id, installed(), values)


@collector("reading the snapshot")
def earlier() -> Snapshot:
    """The snapshot that the caller hands in.

    Raises:
        NotApplicable: if none was.
    """
    raise NotApplicable("no earlier snapshot was named (--against)")


def render_snapshot(taken: Snapshot) -> str:
    """A snapshot as JSON, which is the same for the same values."""
    document = {"schema": SCHEMA, "version": VERSION, **vars(taken)}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def read_snapshot(path: Path) -> Snapshot:
    """Read a snapshot.

    Raises:
        ConfigError: if there is none, or it is none of ours.
    """
    return read_kept(path, "snapshot", "`vlcheck snapshot`", (SCHEMA, VERSION), _snapshot_of)


def _snapshot_of(document: Any) -> Snapshot:
    if not all(isinstance(values, dict) for values in document["values"].values()):
        raise TypeError("values are no mappings")
    return Snapshot(document["model"], dict(document["versions"]), document["values"])


def moved(before: Values, now: Values) -> Iterator[tuple[str, int | str | None, int | str | None]]:
    """Each value that is not as it was, by name; None on the side that lacks it."""
    for name in dict.fromkeys((*before, *now)):
        if before.get(name) != now.get(name):
            yield name, before.get(name), now.get(name)


def _adapters(modules: ModuleTable) -> Values:
    rows = [
        (row.name, row.kind, row.dtype, row.adapter_parameters, row.adapter_dtype, row.saved, str(row.placement))
        for row in modules.rows
        if row.adapted or row.saved
    ]
    census = modules.census()
    counts = {
        f"{part}: {what.replace('_', ' ')}": numbers.get(what, 0)
        for part, numbers in census.items()
        for what in ("adapted", "saved", "adapter_parameters")
    }
    return {"modules": len(rows), **counts, "table": _digest(rows)}


def _labels(
    candidate: Candidate, conversations: tuple[Conversation, ...], instruction: str | None
) -> dict[str, int | str]:
    """Each row alone: how many of its ids are supervised, and which; the built-in rows where the data has none here."""
    rows = conversations or tuple(probe.conversation for probe in built_in(None, instruction))
    values: dict[str, int | str] = {}
    for number, conversation in enumerate(rows):
        try:
            batch = candidate.batch([conversation])
        except Exception as error:  # another's collator; what it refuses is told by VLC229
            values[f"row {number}"] = f"refused: {type(error).__name__}"
            continue
        labels = [label for label in batch["labels"].flatten().tolist() if label != IGNORE_INDEX]
        values[f"row {number}"] = f"{len(labels)} of {batch['input_ids'].numel()} ids supervised, {_digest(labels)}"
    return values


def _lengths(lengths: Lengths) -> Values:
    rows = [(row.tokens, row.images, row.soft_tokens, row.supervised) for row in lengths.rows]
    tokens, images, soft, supervised = (sum(column) for column in zip(*rows, strict=True))
    longest = max(row.tokens for row in lengths.rows)
    return {
        "rows": len(rows), "longest": longest, "tokens": tokens, "images": images, "soft tokens": soft,
        "supervised ids": supervised, "each row": _digest(rows),
    }  # fmt: skip


def _memory(plan: MemoryPlan) -> Values:
    causes = {f"{line.cause} bytes": line.size for line in plan.lines}
    return {"card": plan.gpu.name, "peak bytes": plan.allocated_bytes, "segments bytes": plan.reserved_bytes, **causes}


def _digest(rows: Iterable[Any]) -> str:
    return hashlib.sha256(json.dumps(list(rows)).encode()).hexdigest()[:16]


SNAPSHOT_COLLECTORS = (snapshot, earlier)
