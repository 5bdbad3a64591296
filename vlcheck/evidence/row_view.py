"""One row of a run as its collator sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vlcheck.collators.batch import Candidate
from vlcheck.collators.probes import built_in
from vlcheck.collators.regions import map_tokens
from vlcheck.collators.sample import RowView, pieces_of
from vlcheck.data.conversation import Conversation
from vlcheck.evidence.resolve import Evidence
from vlcheck.processing.collator import Collator
from vlcheck.processing.processor import FoundProcessor
from vlcheck.spec import ConfigError, Problem, RunSpec


def view_row(
    spec: RunSpec,
    row: int = 0,
    *,
    progress: Callable[[str], None] = lambda step: None,
    **options: Any,
) -> tuple[RowView, ...]:
    """A row of the run's data as its collator sees it: one strip, or one an answer.

    Args:
        row: which row of the training split, from 0; without data, of the built-in rows.
        progress: told what is being looked at.
        options: `allow_code`, `offline` and `stream` of `Options`.

    Raises:
        ConfigError: if the run's description is unusable, or there is no such row.
        Unavailable: if the processor or the collator cannot be had.
    """
    evidence = Evidence(spec, {}, progress=progress, rows=row + 1, **options)
    candidate: Candidate = evidence.get("candidate")
    own: Collator = evidence.get("own_collator")
    processor: FoundProcessor = evidence.get("processor")
    found: tuple[Conversation, ...] = evidence.get("conversations")
    rows = found or [probe.conversation for probe in built_in(instruction=spec.data.instruction)]
    if row >= len(rows):
        message = f"--row is {row}; allowed: 0 to {len(rows) - 1}, there are no more rows"
        raise ConfigError(Problem(spec.where("data"), message))
    batch, token_map = dict(candidate.call([rows[row]])), map_tokens(own.template)
    return tuple(
        RowView(str(rows[row]), pieces_of(batch, number, token_map), candidate.origin, processor.origin)
        for number in range(len(batch["input_ids"]))
    )
