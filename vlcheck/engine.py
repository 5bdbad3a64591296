"""Run rules over a run's evidence: the way from a `RunSpec` to a `Report`."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

from vlcheck.adapters.saved import SavedAdapter, read_adapter
from vlcheck.collators.batch import Candidate
from vlcheck.collators.probes import built_in
from vlcheck.collators.regions import map_tokens
from vlcheck.collators.sample import RowView, pieces_of
from vlcheck.data.conversation import Conversation
from vlcheck.data.sources.held import as_conversations
from vlcheck.evidence.options import ROWS
from vlcheck.evidence.resolve import Evidence
from vlcheck.finding import Examined, Finding, NotApplicable, Outcome, Report, Rule, Severity, Unavailable, Verdict
from vlcheck.model import catalogue
from vlcheck.model.families import family_of
from vlcheck.processing.collator import Collator
from vlcheck.processing.processor import FoundProcessor
from vlcheck.rules import choose
from vlcheck.spec import ConfigError, Intent, Location, Lora, ModelRef, Problem, RunSpec
from vlcheck.versions import installed, untested


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
    options = {"allow_code": allow_code, "offline": offline, "stream": stream, "rows": rows}
    evidence = Evidence(spec, given, progress=progress, **options)
    return _judged(spec, choose(tuple(select), tuple(ignore)), evidence)


def judge_all(spec: RunSpec, evidence: Evidence) -> Report:
    """Run every rule over evidence that the caller keeps, as the trainer does: it trains what was audited."""
    return _judged(spec, choose(), evidence)


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
    return _judged(spec, choose(tuple(select), tuple(ignore), saved=True), evidence)


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
        model=ModelRef(id=model or _model_with(processor)),
        lora=Lora(target_modules="all-linear"),
        intent=Intent(answers=answers),
    )
    given: dict[str, Any] = {"processor": processor, "conversations": as_conversations(conversations)}
    if isinstance(collator, Collator):
        given["candidate"] = Candidate(collator, "vlcheck's collator", ours=True)
    else:
        given["candidate" if isinstance(collator, Candidate) else "collator"] = collator
    evidence = Evidence(spec, given, offline=True, progress=progress)
    return _judged(spec, choose(tuple(select), (*ignore, "VLC221")), evidence)


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
        collator, processor, conversations, options: as for `check_collator`.

    Returns:
        The report, if nothing failed.

    Raises:
        AssertionError: with the report's text, if a rule found something, raised, or was skipped.
    """
    report = check_collator(collator, processor, conversations, **options)
    if report.exit_code(fail_on=fail_on, strict=not allow_skipped):
        raise AssertionError(report.text())
    return report


def show(
    spec: RunSpec,
    row: int = 0,
    *,
    allow_code: bool = False,
    offline: bool = False,
    stream: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> tuple[RowView, ...]:
    """A row of the run's data as its collator sees it: one strip, or one an answer.

    Args:
        row: which row of the training split, from 0; without data, of the built-in rows.
        allow_code, offline, stream, progress: as for `audit`.

    Raises:
        ConfigError: if the run's description is unusable, or there is no such row.
        Unavailable: if the processor or the collator cannot be had.
    """
    options = {"allow_code": allow_code, "offline": offline, "stream": stream, "rows": row + 1}
    evidence = Evidence(spec, {}, progress=progress, **options)

    def cut(
        candidate: Candidate, own_collator: Collator, processor: FoundProcessor, conversations: tuple[Conversation, ...]
    ) -> tuple[RowView, ...]:
        rows = conversations or [probe.conversation for probe in built_in(instruction=spec.data.instruction)]
        if row >= len(rows):
            message = f"--row is {row}; allowed: 0 to {len(rows) - 1}, there are no more rows"
            raise ConfigError(Problem(spec.where("data"), message))
        batch, token_map = dict(candidate.call([rows[row]])), map_tokens(own_collator.template)
        return tuple(
            RowView(str(rows[row]), pieces_of(batch, number, token_map), candidate.origin, processor.origin)
            for number in range(len(batch["input_ids"]))
        )

    views: tuple[RowView, ...] = evidence.call(cut)
    return views


def _model_with(processor: Any) -> str:
    """A known model whose processor is of this class."""
    kind = type(processor).__name__
    for entry in catalogue.entries():
        made = family_of(entry.config).fallback
        if made is not None and made.processor == kind:
            return entry.hub_id
    raise ConfigError(Problem(Location("<python>"), f"no known model has a {kind}; name one with model="))


def _judged(spec: RunSpec, rules: Iterable[Rule], evidence: Evidence) -> Report:
    outcomes = [run(rule, evidence) for rule in rules]
    versions = installed()
    return Report(
        spec=spec,
        outcomes=_linked(outcomes),
        subject=evidence.subject(),
        remarks=(*evidence.remarks(), *untested(versions)),
        versions=versions,
    )


def run(rule: Rule, evidence: Evidence) -> Outcome:
    """Run one rule; whatever it does, an `Outcome` comes back.

    A rule that neither finds anything nor says what it examined has not done its work: that is an
    ERROR, not a pass.
    """
    start = time.perf_counter()
    findings: list[Finding] = []
    examined: list[Examined] = []
    verdict, reason, unlock = Verdict.PASSED, "", ""
    try:
        for said in evidence.call(rule.check):
            if isinstance(said, Finding):
                findings.append(said)
            else:
                examined.append(said)
        if findings:
            verdict = Verdict.FOUND
        elif not examined:
            verdict, reason = Verdict.ERROR, f"{rule.code} said nothing of what it examined"
    except ConfigError:
        raise
    except NotApplicable as none:
        verdict, reason = Verdict.NOT_APPLICABLE, str(none)
    except Unavailable as missing:
        verdict, reason, unlock = Verdict.SKIPPED, missing.reason, missing.unlock
    except Exception:  # one bad rule must not hide the others
        verdict, reason = Verdict.ERROR, traceback.format_exc()
    return Outcome(rule, verdict, tuple(findings), tuple(examined), reason, unlock, seconds=time.perf_counter() - start)


def _linked(outcomes: list[Outcome]) -> tuple[Outcome, ...]:
    """Mark each finding outcome that another finding outcome declares to explain."""
    roots = {o.rule.code: o.rule.explains for o in outcomes if o.verdict is Verdict.FOUND}
    return tuple(
        replace(o, explained_by=tuple(code for code, explains in roots.items() if o.rule.code in explains))
        if o.verdict is Verdict.FOUND
        else o
        for o in outcomes
    )
