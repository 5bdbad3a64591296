"""What a rule and a collector are, what they say, and what a report holds: plain values, standard library only."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from vlcheck.spec import Concern, Location, RunSpec

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None


class Severity(IntEnum):
    """How much a finding matters: an error spoils the run, a warning wastes or risks it, a note informs."""

    NOTE = 0
    WARNING = 1
    ERROR = 2

    def __str__(self) -> str:
        return self.name.lower()


class Verdict(Enum):
    """What became of a rule."""

    PASSED = "passed"
    FOUND = "found"
    NOT_APPLICABLE = "not-applicable"  # there is nothing in this run that the rule could judge
    SKIPPED = "skipped"  # evidence is missing; never a pass
    ERROR = "error"  # the rule itself raised
    IGNORED = "ignored"  # it found something, and for each finding there is a reason not to count it


class Unavailable(Exception):
    """Evidence cannot be had: `reason` says why, `unlock` what the user can do about it."""

    def __init__(self, reason: str, unlock: str = "") -> None:
        super().__init__(reason)
        self.reason, self.unlock = reason, unlock


class NotApplicable(Exception):
    """The run has nothing that this rule judges, for a reason that is known for certain."""


@dataclass(frozen=True)
class Finding:
    """Something about the user's run: what was measured against what limit, where, and the remedy."""

    message: str
    where: Location
    measured: Mapping[str, Json] = field(default_factory=dict)
    fix: str = ""
    severity: Severity | None = None
    """None is the rule's own; another one is one that the rule declares, see `Rule.weighs`."""


@dataclass(frozen=True)
class Ignored:
    """A finding that does not count, and why."""

    finding: Finding
    reason: str
    where: Location | None = None
    """The config's comment that says so; None for a finding that a baseline holds."""


@dataclass(frozen=True)
class Examined:
    """How much a rule looked at, so that a pass over nothing can be told from a pass."""

    count: int
    what: str


@dataclass(frozen=True)
class Weight:
    """A severity that a rule's findings have under a condition, told in words as `explain` prints them."""

    severity: Severity
    when: str


@dataclass(frozen=True)
class Rule:
    """A named question. `check` names the evidence it needs as parameters and yields what it saw."""

    code: str
    name: str
    severity: Severity
    check: Callable[..., Iterable[Finding | Examined]]
    explains: tuple[str, ...] = ()
    weighs: tuple[Weight, ...] = ()
    """Other severities that its findings can have, by what the evidence shows."""

    @property
    def doc(self) -> str:
        """The rule's docstring: title, mechanism, remedy, source."""
        return inspect.getdoc(self.check) or ""

    def weight(self, finding: Finding) -> Severity:
        """How much one of its findings matters."""
        return self.severity if finding.severity is None else finding.severity

    def fault(self, findings: Iterable[Finding], examined: Iterable[Examined]) -> str:
        """What is wrong with what it said: nothing at all, or a finding of a severity that it does not declare."""
        given = {found.severity for found in findings}
        if not given and not list(examined):
            return f"{self.code} said nothing of what it examined"
        undeclared = given - {None, *(weight.severity for weight in self.weighs)}
        return f"{self.code} does not declare {', '.join(map(str, undeclared))}" if undeclared else ""

    @property
    def title(self) -> str:
        """First line of the docstring: what is wrong."""
        return self.doc.partition("\n")[0]


Check: TypeAlias = Callable[..., Iterable[Finding | Examined]]


def rule(
    code: str, name: str, severity: Severity, *, explains: tuple[str, ...] = (), weighs: tuple[Weight, ...] = ()
) -> Callable[[Check], Rule]:
    """Turn a check function into a `Rule`; the rule counts once it stands in `vlcheck.rules.RULES`.

    Args:
        explains: codes whose findings are consequences when this rule has one.
        weighs: severities that a finding may have instead, each with the evidence that decides it.
    """
    return lambda check: Rule(code, name, severity, check, explains, weighs)


Collect = TypeVar("Collect", bound=Callable[..., Any])


def collector(label: str) -> Callable[[Collect], Collect]:
    """Mark a function that gets one piece of evidence; its parameters name the evidence that it needs itself.

    Args:
        label: what a spinner shows while it works, as in "reading the chat template".
    """

    def mark(collect: Collect) -> Collect:
        vars(collect)["label"] = label
        return collect

    return mark


def label_of(collect: Callable[..., Any]) -> str:
    """What a collector is doing while it works.

    Raises:
        KeyError: if the function is no collector.
    """
    label: str = vars(collect)["label"]
    return label


RULES_OF: Mapping[Concern, tuple[str, ...]] = {
    "memory": ("VLC3",),
    "labels": ("VLC2",),
    "placement": ("VLC1", "VLC4"),
    "data": ("VLC5",),
}
"""The rules whose verdicts rest on what a setting touches, by the beginnings of their codes."""


@dataclass(frozen=True)
class Outcome:
    """A rule and what became of it."""

    rule: Rule
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    examined: tuple[Examined, ...] = ()
    reason: str = ""  # why not applicable or skipped; what a pass was judged without; the traceback of an error
    unlock: str = ""  # what would let a skipped rule run
    explained_by: tuple[str, ...] = ()  # codes of the root causes, when this outcome is a consequence
    seconds: float = 0.0
    ignored: tuple[Ignored, ...] = ()

    def without(self, ignored: Mapping[int, Ignored]) -> Outcome:
        """The same outcome with some findings set apart, by their index; they stay in it, with their reasons."""
        if not ignored:
            return self
        kept = tuple(finding for index, finding in enumerate(self.findings) if index not in ignored)
        verdict = Verdict.FOUND if kept else Verdict.IGNORED
        return replace(self, verdict=verdict, findings=kept, ignored=(*self.ignored, *ignored.values()))

    def weight(self, finding: Finding) -> Severity:
        """How much one of its findings matters."""
        return self.rule.weight(finding)

    def weighing(self, severity: Severity) -> Outcome:
        """The same outcome, each of its findings of this severity."""
        rule = replace(self.rule, severity=severity)
        return replace(self, rule=rule, findings=tuple(replace(found, severity=None) for found in self.findings))

    @property
    def severity(self) -> Severity:
        """How much its worst finding matters; the rule's own severity where it has none."""
        return max(map(self.weight, self.findings), default=self.rule.severity)

    def qualified(self, spec: RunSpec) -> Outcome:
        """The same outcome; a pass says which keys of another tool's file it was judged without."""
        if self.verdict is not Verdict.PASSED or spec.origin is None:
            return self
        without = [
            f"{key.where.key} (line {key.where.line})"
            for key in spec.origin.unread
            if any(self.rule.code.startswith(RULES_OF[concern]) for concern in key.touches)
        ]
        return replace(self, reason=f"judged without {', '.join(without)}") if without else self


def linked(outcomes: Iterable[Outcome]) -> tuple[Outcome, ...]:
    """Mark each finding outcome that another finding outcome declares to explain."""
    outcomes = tuple(outcomes)
    roots = {o.rule.code: o.rule.explains for o in outcomes if o.verdict is Verdict.FOUND}
    return tuple(
        replace(o, explained_by=tuple(code for code, explains in roots.items() if o.rule.code in explains))
        if o.verdict is Verdict.FOUND
        else o
        for o in outcomes
    )


@dataclass(frozen=True)
class Report:
    """Everything one audit established.

    `subject` says what was audited: model, family, parameters, where its config came from, and, where rules looked
    at them, processor, collator, rows and card (see `vlcheck.evidence.judged`). `remarks` is what the reader must
    know to weigh the rest (versions, patches not seen), the remarks that `told_by` makes of the subject among them.
    """

    spec: RunSpec
    outcomes: tuple[Outcome, ...]
    subject: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    def found(self, at_least: Severity = Severity.NOTE) -> tuple[Outcome, ...]:
        """Outcomes with findings at or above a severity, consequences included."""
        return tuple(o for o in self.outcomes if o.verdict is Verdict.FOUND and o.severity >= at_least)

    def with_verdict(self, verdict: Verdict) -> tuple[Outcome, ...]:
        """Outcomes of one kind, in report order."""
        return tuple(o for o in self.outcomes if o.verdict is verdict)

    def considerate(self) -> Report:
        """The same report with what the config's comments ignore set apart; a comment without effect is a remark."""
        if not self.spec.ignores:
            return self
        outcomes, used = [], set()
        for outcome in self.outcomes:
            ignored = {}
            for index, finding in enumerate(outcome.findings):
                for ignore in self.spec.ignores:
                    here = (finding.where.file, finding.where.line) == (ignore.where.file, ignore.line)
                    if here and outcome.rule.code in ignore.codes:
                        ignored[index] = Ignored(finding, ignore.reason, ignore.where)
                        used.add((ignore, outcome.rule.code))
            outcomes.append(outcome.without(ignored))
        judged = {o.rule.code for o in outcomes if o.verdict not in (Verdict.SKIPPED, Verdict.ERROR)}
        idle = [
            f"the comment at {ignore.where} ignores {code}, and nothing: no such finding is about line {ignore.line}"
            for ignore in self.spec.ignores
            for code in ignore.codes
            if code in judged and (ignore, code) not in used
        ]
        return replace(self, outcomes=tuple(outcomes), remarks=(*self.remarks, *idle))

    def graded(self, severities: Mapping[str, Severity]) -> Report:
        """The same report with other severities of rules, by code, whatever the evidence; what changes is a remark."""
        outcomes = tuple(o.weighing(severities[o.rule.code]) if o.rule.code in severities else o for o in self.outcomes)
        changed = [
            f"{new.rule.code} {new.severity} (not {old.severity})"
            for old, new in zip(self.outcomes, outcomes, strict=True)
            if new.severity is not old.severity
        ]
        remark = (f"severities of this project: {', '.join(changed)}",) if changed else ()
        return replace(self, outcomes=outcomes, remarks=(*self.remarks, *remark))

    @property
    def ignored(self) -> tuple[tuple[Rule, Ignored], ...]:
        """What was found and does not count, with its rule."""
        return tuple((outcome.rule, ignored) for outcome in self.outcomes for ignored in outcome.ignored)

    def exit_code(self, *, fail_on: Severity = Severity.ERROR, strict: bool = False) -> int:
        """0 clean, 1 findings at or above `fail_on`, 2 something could not run.

        A rule that raised gives 2; a skipped rule gives 2 under `strict`; so does a report in which
        no rule could judge anything.
        """
        if self.found(fail_on):
            return 1
        skipped = self.with_verdict(Verdict.SKIPPED)
        nothing_ran = bool(skipped) and len(skipped) == len(self.outcomes)
        return 2 if self.with_verdict(Verdict.ERROR) or nothing_ran or (strict and skipped) else 0

    def text(self, *, width: int = 100) -> str:
        """The report as a terminal prints it, without colour.

        Args:
            width: columns of the terminal.
        """
        written: str = _renderer("text").render(self, width=width)
        return written

    def __str__(self) -> str:
        """The summary: how many errors, warnings and notes, and what became of the other rules."""
        return str(_renderer("summary").summarise(self))


def _renderer(name: str) -> Any:
    """A module of `vlcheck.reports`, imported by name: reports are written above what they report."""
    return importlib.import_module(f"vlcheck.reports.{name}")


UNSEEN = "not seen"
"""What the subject says of patches that the training script applies on its own."""


def told_by(subject: Mapping[str, Any]) -> tuple[str, ...]:
    """The remarks that a report's subject makes: patches that nobody saw, the processor, whose labels on which rows."""
    told = []
    if subject.get("patches") == UNSEEN:
        told.append(
            "patches that your training script applies to transformers or PEFT were not seen; name them in model.patch"
        )
    if "processor" in subject:
        told.append(f"processor: {subject['processor']}")
    if "collator" in subject:
        rows = subject.get("rows")
        beside = " and built-in ones" if subject.get("built_in_rows", True) else ""
        source = f"{rows} rows of the run's data{beside}" if rows else "built-in rows"
        told.append(f"labels of {subject['collator']} were judged on {source}")
    return tuple(told)
