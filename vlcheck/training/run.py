"""Train a run whose parts were found: from its rows to the saved adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vlcheck.data.progress import Progress
from vlcheck.processing.processor import check_tokenizer
from vlcheck.processing.resolved_run import ResolvedRun
from vlcheck.training import loop
from vlcheck.training.loop import Trained
from vlcheck.training.rows import read_training_rows


def train_resolved(  # noqa: PLR0913  one parameter an option
    run: ResolvedRun,
    *,
    projected: tuple[int, int] | None = None,
    reached: bool = False,
    samples: int | None = None,
    offline: bool = False,
    stream: bool = False,
    origin: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: Progress = lambda step: None,
) -> Trained:
    """Train a run's adapters with the very objects that were judged, and nothing asked before.

    Args:
        projected: allocated bytes that the memory plan for this card expects, and its upper bound.
        reached: a row with an image gives every adapter a gradient, as the audit has seen.
        samples: train on so many rows only, every answer in turn.
        offline: read no rows from the Hub.
        stream: read rows when they are needed, instead of holding them.
        origin: checkpoint of a shorter run that this one goes on from.
        say: told one line at a time.
        progress: told how many rows were read, and nothing any more once training begins.

    Raises:
        Unavailable: if the run has trained weights and a stand-in's tokenizer, or its data cannot be had.
        ConfigError, RunStopped, OtherRun, CheckpointNotWritten, BadRow, AdapterRefused, UnbuildableConfig: as the
            loop does.
    """
    spec = run.spec
    check_tokenizer(spec, run.processor)
    if spec.data.collator is not None:
        say("note: data.collator is audited, not used here: vlcheck trains with its own")
    rows = read_training_rows(spec, offline=offline, stream=stream, progress=progress)
    rows = rows if samples is None else rows.fewer(samples)
    pictured = not stream and all(row.pictures for row in rows.conversations)
    rows = replace(rows, all_used=reached and pictured)
    count = "a stream of" if rows.stream else f"{len(rows.conversations):,}"
    say(f"{count} rows of {spec.data.train_split!r}; processor: {run.processor.origin}")
    return loop.train(
        spec,
        config=run.config.values,
        family=run.family,
        collator=replace(run.collator, max_length=spec.data.max_length, overflow=spec.data.overflow),
        rows=rows,
        projected=projected,
        patch=run.patch,
        origin=origin,
        say=say,
        progress=progress,
    )
