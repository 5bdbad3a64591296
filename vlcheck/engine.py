"""Judge a run, an adapter or a collator; train a run once it is judged."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from vlcheck.adapters.saved import SavedAdapter, read_adapter
from vlcheck.collators.batch import Candidate
from vlcheck.config.defaults import with_adapters
from vlcheck.config.foreign.advice import in_own_keys
from vlcheck.data.conversation import Conversation
from vlcheck.data.sources.held import as_conversations
from vlcheck.evidence.model import known_model, model_with
from vlcheck.evidence.options import ROWS
from vlcheck.evidence.resolve import Evidence, one_thread, run
from vlcheck.finding import Report, Rule, Severity, linked
from vlcheck.launch.native import on_job
from vlcheck.model.build import check_patch
from vlcheck.processing.collator import Collator
from vlcheck.rules.choosing import choose
from vlcheck.rules.ignores import check_ignores, considerate
from vlcheck.spec import Intent, Lora, ModelRef, RunSpec
from vlcheck.versions import installed, untested

if TYPE_CHECKING:
    from pathlib import Path

    from vlcheck.launch.job import Job
    from vlcheck.processing.resolved_run import ResolvedRun
    from vlcheck.training.loop import Trained

LEFT_OUT = ("VLC501",)
"""Errors that the trainer deals with itself: unreadable images are left out, up to `data.max_unreadable`."""


class NotStarted(Exception):
    """The audit failed, so nothing was trained."""


def audit(
    spec: RunSpec,
    *,
    select: Iterable[str] = (),
    ignore: Iterable[str] = (),
    allow_code: bool = False,
    offline: bool = False,
    stream: bool = False,
    rows: int = ROWS,
    progress: Callable[[str], None] = lambda step: None,
    **given: Any,
) -> Report:
    """Judge a run without GPU, weights or network.

    Args:
        select: codes, prefixes of codes or names of the rules to run; empty means all.
        ignore: rules to leave out.
        allow_code: run the user's `model.patch`.
        offline: never ask the Hub for a config.
        stream: read a Hub data set over the network where it is not in the cache of `datasets`.
        rows: how many rows of the data have their labels judged; all of them are scanned.
        progress: told what is being looked at, for a spinner.
        given: evidence handed in instead of collected, by name. `model=` takes a live `PeftModel`
            and judges it in place of the one that vlcheck would build; `processor=` and `collator=` take those
            of your training script.

    Raises:
        ConfigError: if the run's description is unusable (no such model, unknown family).
        ValueError: if a selected rule does not exist.
        TypeError: if `given` names evidence that no collector knows.
    """
    options: dict[str, Any] = {"allow_code": allow_code, "offline": offline, "stream": stream, "rows": rows}
    evidence = Evidence(spec, given, progress=progress, **options)
    return report_on(spec, choose(tuple(select), tuple(ignore), launched="job" in given), evidence)


def preflight(spec: RunSpec, job: Job, **options: Any) -> Report:
    """Judge a run and the job that would start it: the rules of `audit` and VLC6xx, in one report.

    Args:
        job: as `vlcheck.read_job` reads it.
        options: as for `audit`, which tells what is raised; `earlier_seconds=` of an optimizer step in an earlier run.
    """
    return audit(on_job(spec, job), job=job, **options)


def check_adapter(
    spec: RunSpec,
    adapter: str | os.PathLike[str] | SavedAdapter,
    *,
    select: Iterable[str] = (),
    ignore: Iterable[str] = (),
    allow_code: bool = False,
    offline: bool = False,
    progress: Callable[[str], None] = lambda step: None,
    **given: Any,
) -> Report:
    """Judge a saved LoRA adapter against the model of a run, without weights, from its files' headers.

    Args:
        adapter: the folder that `save_pretrained` wrote, or what `read_adapter` made of it.
        select, ignore, allow_code, offline, progress, given: as for `audit`.

    Raises:
        ConfigError: if the run's description or a file of the folder is unusable.
        ValueError: if a selected rule does not exist.
        TypeError: if `given` names evidence that no collector knows.
    """
    saved = adapter if isinstance(adapter, SavedAdapter) else read_adapter(adapter)
    evidence = Evidence(
        spec, {**given, "saved_adapter": saved}, allow_code=allow_code, offline=offline, progress=progress
    )
    return report_on(spec, choose(tuple(select), tuple(ignore), saved=True), evidence)


def check_collator(
    collator: Callable[..., Any] | Candidate,
    processor: Any,
    conversations: Iterable[Conversation | Mapping[str, Any]] = (),
    *,
    model: str | None = None,
    answers: Literal["all", "last"] = "all",
    select: Iterable[str] = ("VLC2",),
    ignore: Iterable[str] = (),
    progress: Callable[[str], None] = lambda step: None,
) -> Report:
    """Judge any collator: hold its labels, and what else is in its batches, against conversations.

    Args:
        collator: called with a list of rows, each a mapping with `messages` (image parts bare) and `images`,
            and for one image and one answer also `image` and `label`. A `vlcheck.processing.collator.Collator` is
            called with the conversations themselves; so is a `Candidate`, which has a name besides.
        processor: the one that the collator uses; its template, tokenizer and image processor are the oracle's.
        conversations: rows of your data, as `vlcheck.Conversation` or as the mappings of a table: `messages` (with
            `images`), `prompt` and `completion`, or `image` and `label`. Small built-in rows are judged beside them in
            any case; shapes that your rows do not have are then only mentioned (VLC228).
        model: Hub id or folder of the model; by default a known model whose processor is of this class.
        answers: `last` if only the last answer of a conversation is meant to be trained.
        select, ignore, progress: as for `audit`.

    Raises:
        ConfigError: if vlcheck knows no model with such a processor.
        ValueError: if a selected rule does not exist, or a row is no conversation.
    """
    spec = RunSpec(
        model=ModelRef(id=model or model_with(processor)),
        lora=Lora(target_modules="all-linear"),
        intent=Intent(answers=answers),
    )
    given = {"processor": processor, "conversations": as_conversations(conversations), **known_model(spec)}
    if isinstance(collator, Collator):
        given["candidate"] = Candidate(collator, "vlcheck's collator", ours=True)
    else:
        given["candidate" if isinstance(collator, Candidate) else "collator"] = collator
    evidence = Evidence(spec, given, offline=True, progress=progress)
    return report_on(spec, choose(tuple(select), (*ignore, "VLC221")), evidence)


def assert_collator(
    collator: Callable[..., Any] | Candidate,
    processor: Any,
    conversations: Iterable[Conversation | Mapping[str, Any]] = (),
    *,
    fail_on: Severity = Severity.ERROR,
    allow_skipped: bool = False,
    **options: Any,
) -> Report:
    """Judge a collator as `check_collator` does, and fail with the readable report if it is not right.

    Args:
        fail_on: the least severity of a finding that fails.
        allow_skipped: let rules pass that could not judge anything; by default they fail too.
        collator, processor, conversations, options: as for `check_collator`, whose report is returned.

    Raises:
        AssertionError: with the report's text, if a rule found something, raised, or was skipped.
    """
    report = check_collator(collator, processor, conversations, **options)
    if report.exit_code(fail_on=fail_on, strict=not allow_skipped):
        raise AssertionError(report.text())
    return report


def train_run(  # noqa: PLR0913  one parameter an option
    spec: RunSpec,
    *,
    force: bool = False,
    auto_batch: bool = False,
    allow_code: bool = False,
    offline: bool = False,
    stream: bool = False,
    select: Iterable[str] = (),
    ignore: Iterable[str] = (),
    fail_on: Severity = Severity.ERROR,
    origin: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[str], None] = lambda step: None,
    weighed: Callable[[Report], Report] = lambda report: report,
    judged: Callable[[Report], None] = lambda report: None,
) -> Trained:
    """Judge a run, then train it with the objects that were judged; what fails the audit stops it.

    Under `accelerate launch` every process calls this; the main one judges and speaks.

    Args:
        force: train in spite of what fails the audit.
        auto_batch: let the memory plan split the effective batch for the card.
        allow_code, offline, stream, select, ignore: as for `audit`.
        fail_on: the least severity of a finding that stops the run.
        origin: checkpoint of a shorter run that this one goes on from.
        say: told one line at a time.
        progress: told what is being worked on until training begins; an empty step is the end of that.
        weighed: makes the report that counts of the audit's: other severities, findings set apart.
        judged: told the report where something in it stops the run.

    Raises:
        NotStarted: if the audit failed and `force` is off.
        Unavailable: if a part of the run cannot be had, or `auto_batch` finds no card or no plan that fits.
        ConfigError, RunStopped, OtherRun, CheckpointNotWritten, BadRow, AdapterRefused, UnbuildableConfig: as
            `vlcheck.training.loop.train` does.
    """
    from vlcheck.evidence.card import left_to_fit, projected_here, recommended_training
    from vlcheck.evidence.reached import every_adapter_reached
    from vlcheck.training.begun import begun_before
    from vlcheck.training.run import train_resolved
    from vlcheck.training.setup import agreed, make_accelerator

    check_patch(with_adapters(spec), allow_code=allow_code)
    accelerator = make_accelerator(spec)  # a bare PartialState would take CPU processes for single ones
    main = accelerator.is_main_process
    voice, shown = (say, progress) if main else (lambda line: None,) * 2
    options: dict[str, Any] = {"allow_code": allow_code, "offline": offline, "stream": stream}
    if auto_batch:
        training, line = spec.training, ""
        if main:
            training, line = recommended_training(spec, Evidence(spec, {}, progress=shown, **options))
        voice(line)
        spec = replace(spec, training=agreed(training))
    evidence = Evidence(spec, {"projection": left_to_fit}, progress=shown, **options)
    if main and (known := begun_before(spec)):
        voice("audit: this run was begun before, by the same settings and versions; it is not judged again")
    rules = choose(tuple(select), tuple(ignore))
    may_start = main and (
        known or _may_start(weighed(report_on(spec, rules, evidence)), fail_on, force=force, say=voice, judged=judged)
    )
    if not agreed(may_start):
        raise NotStarted
    reached = accelerator.num_processes > 1 and agreed(main and every_adapter_reached(evidence))
    run: ResolvedRun = evidence.get("resolved_run")
    plan = projected_here(run, evidence)
    return train_resolved(
        run, projected=plan, reached=reached, offline=offline, stream=stream, origin=origin, say=voice, progress=shown
    )


def _may_start(
    report: Report, fail_on: Severity, *, force: bool, say: Callable[[str], None], judged: Callable[[Report], None]
) -> bool:
    """Whether training may begin; what speaks against it is told."""
    counted = [outcome for outcome in report.found() if outcome.rule.code not in LEFT_OUT]
    errors = sum(outcome.severity is Severity.ERROR for outcome in counted)
    warnings = sum(outcome.severity is Severity.WARNING for outcome in counted)
    found = ", ".join(f"{n} {noun}{'s' * (n != 1)}" for n, noun in ((errors, "error"), (warnings, "warning")))
    say(f"audit: {found}; `vlcheck audit` tells all")
    failing = any(outcome.severity >= fail_on for outcome in counted)
    if failing:
        judged(report)
        say("forced: the run starts all the same" if force else "not started; --force starts the run all the same")
    return force or not failing


def report_on(spec: RunSpec, rules: Iterable[Rule], evidence: Evidence) -> Report:
    """Run rules, in report order, on the evidence of a run."""
    if spec.ignores:
        check_ignores(spec)
    with one_thread():
        outcomes = [run(rule, evidence).qualified(spec) for rule in rules]
    told = [in_own_keys(outcome, spec.origin) for outcome in outcomes] if spec.origin else outcomes
    versions = installed()
    report = Report(
        spec=spec,
        outcomes=linked(told),
        subject=evidence.subject(),
        remarks=(*evidence.remarks(), *untested(versions)),
        versions=versions,
    )
    return considerate(report) if spec.ignores else report
