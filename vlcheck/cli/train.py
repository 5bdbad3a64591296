"""Run `vlcheck train`: the audit first, then the loop."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from vlcheck.cli.quiet import quieted
from vlcheck.cli.streams import fail

if TYPE_CHECKING:
    from vlcheck.finding import Report
    from vlcheck.spec import RunSpec

LEFT_OUT = ("VLC501",)
"""Errors that the trainer deals with itself: unreadable images are left out, up to `data.max_unreadable`."""
FOUND = 1


def run_training(spec: RunSpec, *, force: bool, auto: bool, debug: bool, **options: Any) -> None:
    """Audit a run, then train it; errors that the audit finds stop it unless forced.

    Args:
        auto: let the memory plan choose the micro-batch for the run's effective batch.
        options: `allow_code`, `offline` and `stream`, as for `audit`.
    """
    with _speaking(debug) as say:
        from accelerate.utils import broadcast_object_list

        from vlcheck.evidence.resolve import Evidence
        from vlcheck.model.build import check_patch
        from vlcheck.training.setup import make_accelerator

        check_patch(spec, allow_code=options["allow_code"])
        processes = make_accelerator(spec)  # as the loop does: a bare PartialState takes CPU processes for single ones
        if auto:
            spec = _chosen(spec, processes, say, options)
        evidence = Evidence(spec, {}, **options)
        passed = [True]
        if processes.is_main_process:
            passed = [_audited(spec, evidence, say, force=force)]
        if not broadcast_object_list(passed)[0]:
            raise typer.Exit(FOUND)
        evidence.call(_trainer(spec, options, say))


def _trainer(spec: RunSpec, options: dict[str, Any], say: Callable[[str], None]) -> Callable[..., None]:
    from vlcheck.processing.collator import Collator
    from vlcheck.processing.processor import check_tokenizer
    from vlcheck.training.loop import read_training_rows, train

    def run(config: Any, family: Any, processor: Any, dialogue: Any, patch: Any) -> None:
        check_tokenizer(spec, processor)
        if spec.data.collator is not None:
            say("note: data.collator is audited, not used here: vlcheck trains with its own")
        collator = Collator(processor.processor, dialogue, spec.data.max_length, spec.data.overflow)
        rows = read_training_rows(spec, offline=options["offline"], stream=options["stream"])
        count = "a stream of" if rows.stream else f"{len(rows.conversations):,}"
        say(f"{count} rows of {spec.data.train_split!r}; processor: {processor.origin}")
        projected = _projected(spec, config, family)
        train(
            spec,
            config=config.values,
            family=family,
            collator=collator,
            rows=rows,
            projected=projected,
            patch=patch,
            say=say,
        )

    return run


def _audited(spec: RunSpec, evidence: Any, say: Callable[[str], None], *, force: bool) -> bool:
    """Whether the run may start; what speaks against it is printed."""
    from vlcheck.engine import judge_all
    from vlcheck.finding import Severity
    from vlcheck.reports import text

    report: Report = judge_all(spec, evidence)
    errors = [outcome for outcome in report.found(Severity.ERROR) if outcome.rule.code not in LEFT_OUT]
    warnings = len(report.found(Severity.WARNING)) - len(report.found(Severity.ERROR))
    say(f"audit: {len(errors)} errors, {warnings} warnings; `vlcheck audit` tells all")
    if errors:
        say(text.render(report))
        say("forced: the run starts all the same" if force else "not started; --force starts the run all the same")
    return force or not errors


def _projected(spec: RunSpec, config: Any, family: Any) -> tuple[int, int] | None:
    """Allocated bytes that are projected for this machine's card, and their upper bound."""
    import torch

    if not torch.cuda.is_available():
        return None
    from vlcheck.finding import Unavailable
    from vlcheck.memory.probe import this_card
    from vlcheck.memory.project import project_memory

    try:
        plan = project_memory(spec, config.values, family, this_card())
    except Unavailable:
        return None
    return plan.allocated_bytes, plan.upper_bytes


def _chosen(spec: RunSpec, processes: Any, say: Callable[[str], None], options: dict[str, Any]) -> RunSpec:
    """The run with the micro-batch that the memory plan recommends for this card, or the config's."""
    import torch
    from accelerate.utils import broadcast_object_list

    from vlcheck.evidence.resolve import Evidence
    from vlcheck.finding import Unavailable
    from vlcheck.gpus import gpu
    from vlcheck.memory.probe import this_card
    from vlcheck.memory.search import fit

    chosen = [spec.training]
    if processes.is_main_process:
        if torch.cuda.is_available():
            card = this_card()
        elif spec.hardware.gpu is not None:
            card = gpu(spec.hardware.gpu)
        else:
            raise Unavailable(
                "--auto-batch plans for a card: this machine has none, and the config names no hardware.gpu"
            )
        values, family = Evidence(spec, {}, **options).call(lambda config, family: (config.values, family))
        best = fit(spec, values, family, card).recommended
        if best is None:
            raise Unavailable(f"no micro-batch of this run fits a {card.title}", "see `vlcheck fit`")
        chosen = [
            replace(
                spec.training,
                per_device_train_batch_size=best.rows,
                gradient_accumulation_steps=best.accumulation,
                gradient_checkpointing=best.checkpointed > 0,
            )
        ]
        on = "on" if best.checkpointed else "off"
        say(f"plan for {card.title}: micro-batch {best.rows}, accumulation {best.accumulation}, checkpointing {on}")
    return replace(spec, training=broadcast_object_list(chosen)[0])


@contextlib.contextmanager
def _speaking(debug: bool) -> Iterator[Callable[[str], None]]:
    """Quiet libraries, lines of ours, and one line for what cannot be done."""
    out = sys.stdout

    def say(line: str) -> None:
        if out is not None:
            with contextlib.suppress(BrokenPipeError):
                print(line, file=out, flush=True)

    reason: Exception | None = None
    with contextlib.nullcontext() if debug else quieted():
        try:
            yield say
        except refusals() as refused:
            if debug:
                raise
            reason = refused
    if reason is not None:
        unlock = getattr(reason, "unlock", "")
        fail(" ".join(f"{reason}{unlock and f'; {unlock}'}".split()))


def refusals() -> tuple[type[Exception], ...]:
    """What ends a run for a reason that a user can act on."""
    import torch

    from vlcheck.data.conversation import BadRow
    from vlcheck.data.sources.row import NoSuchSplit
    from vlcheck.finding import NotApplicable, Unavailable
    from vlcheck.model.build import AdapterRefused, UnbuildableConfig
    from vlcheck.training.checkpoint import CheckpointNotWritten, OtherRun
    from vlcheck.training.lease import FolderTaken
    from vlcheck.training.ours import ForeignFiles
    from vlcheck.training.snapshot import StateMismatch
    from vlcheck.training.watch import RunStopped

    return (
        AdapterRefused, UnbuildableConfig, NotApplicable, Unavailable, NoSuchSplit, BadRow, CheckpointNotWritten,
        OtherRun, ForeignFiles, FolderTaken, StateMismatch, RunStopped, torch.OutOfMemoryError,
    )  # fmt: skip
