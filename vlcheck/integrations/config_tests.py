"""The tests of a config that `pytest --vlcheck` names: one a rule, and with `-m gpu` what only a card can tell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from vlcheck.config.load import load
from vlcheck.config.project import ProjectSettings, read_project
from vlcheck.finding import Outcome, Report, Unavailable, Verdict
from vlcheck.gpus import show_gib
from vlcheck.reports.project import weighing
from vlcheck.reports.units import show_measured
from vlcheck.rules.choosing import asked, choose
from vlcheck.rules.ignores import check_ignores
from vlcheck.spec import ConfigError, RunSpec

if TYPE_CHECKING:
    from vlcheck.memory.probe import ProbeResult

AUDITS = pytest.StashKey[dict[Path, Report]]()


class ConfigFile(pytest.File):
    """A config: a test for each rule that its project runs, and with `-m gpu` what only a card can tell."""

    def collect(self) -> list[pytest.Item]:
        """The tests; of a config that cannot be used, one that says so."""
        try:
            project = read_project(self.path.parent)
            spec = load(self.path, project=project)
            check_ignores(spec)
            rules = choose(*asked(project))
        except ConfigError as unusable:
            return [self._marked(UnusableConfig.from_parent(self, name="config", problem=str(unusable)))]
        items: list[pytest.Item] = [
            RuleTest.from_parent(self, name=f"{rule.code}[{rule.name}]", code=rule.code, spec=spec, project=project)
            for rule in rules
        ]
        if re.search(r"\bgpu\b", self.config.option.markexpr):
            items.append(self._on_a_card(ProbeTest.from_parent(self, name="probe", spec=spec, project=project)))
            if spec.gate is not None:
                items.append(self._on_a_card(GateTest.from_parent(self, name="gate", spec=spec, project=project)))
        return [self._marked(item) for item in items]

    def _marked(self, item: pytest.Item) -> pytest.Item:
        item.add_marker("vlcheck")
        return item

    def _on_a_card(self, item: pytest.Item) -> pytest.Item:
        item.add_marker("gpu")
        return item


class Failed(Exception):
    """What a test of a config says when it fails, in the words of a report."""


class ConfigTest(pytest.Item):
    """A test whose failure is a text."""

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The text alone; a traceback would show this file."""
        return str(excinfo.value) if isinstance(excinfo.value, Failed) else super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """The config is the place."""
        return self.path, None, f"{self.path.name}: {self.name}"


class UnusableConfig(ConfigTest):
    """Fails with what is wrong with a config."""

    def __init__(self, *, problem: str, **node: Any) -> None:
        super().__init__(**node)
        self.problem = problem

    def runtest(self) -> None:
        """Fail."""
        raise Failed(self.problem)


class RuleTest(ConfigTest):
    """One rule on one config: fails on a finding that the project fails on, is skipped where there is no verdict."""

    def __init__(self, *, code: str, spec: RunSpec, project: ProjectSettings, **node: Any) -> None:
        super().__init__(**node)
        self.code, self.spec, self.project = code, spec, project

    def runtest(self) -> None:
        """Look the rule's outcome up in the config's one audit."""
        outcome = self._outcome()
        shown = told(outcome)
        match outcome.verdict:
            case Verdict.ERROR:
                raise Failed(f"{self.code} failed to run, which is a fault of vlcheck\n{outcome.reason}")
            case Verdict.FOUND if outcome.severity >= self.project.threshold:
                raise Failed(shown)
            case Verdict.SKIPPED | Verdict.NOT_APPLICABLE | Verdict.IGNORED:
                unlock = f"; to unlock: {outcome.unlock}" if outcome.unlock else ""
                reason = outcome.reason or "; ".join(each.reason for each in outcome.ignored)
                pytest.skip(f"{outcome.verdict.value}: {reason}{unlock}")
        self.add_report_section("call", "vlcheck", shown)

    def _outcome(self) -> Outcome:
        report = audited(self.config, self.spec, self.path, self.project)
        return next(outcome for outcome in report.outcomes if outcome.rule.code == self.code)


class CardTest(ConfigTest):
    """A test that needs this machine's card."""

    def __init__(self, *, spec: RunSpec, project: ProjectSettings, **node: Any) -> None:
        super().__init__(**node)
        self.spec, self.project = spec, project

    def setup(self) -> None:
        """Skip without a card."""
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA GPU")


class ProbeTest(CardTest):
    """A few steps with random weights stay within the memory plan."""

    def runtest(self) -> None:
        """Measure what `vlcheck probe` measures; more than the plan's upper bound fails."""
        from vlcheck.evidence.resolve import Evidence
        from vlcheck.memory.probe import probe

        evidence = Evidence(self.spec, {})
        try:
            found = probe(evidence.get("aimed"), evidence.get("config").values, evidence.get("family"))
        except Unavailable as missing:
            pytest.skip(reason_of(missing))
        self.add_report_section("call", "vlcheck", against_plan(found))


class GateTest(CardTest):
    """The run, trained and evaluated, reaches the score that its `gate` asks for."""

    def runtest(self) -> None:
        """Train into a folder of its own, evaluate, and hold the score against the gate."""
        import tempfile
        from dataclasses import replace

        from vlcheck.config.defaults import own_loop
        from vlcheck.engine import NotStarted, train_run
        from vlcheck.evaluation.run import evaluate_run
        from vlcheck.evidence.options import Options

        gate, allow_code = self.spec.gate, self.config.option.vlcheck_allow_code
        select, ignore = asked(self.project)
        assert gate is not None
        with tempfile.TemporaryDirectory(prefix="vlcheck-gate-") as folder:
            training = replace(self.spec.training, output_dir=f"{folder}/run")
            spec = own_loop(replace(self.spec, training=training), force=False)
            try:
                train_run(
                    spec, select=select, ignore=ignore, fail_on=self.project.threshold, weighed=weighing(self.project),
                    allow_code=allow_code,
                )  # fmt: skip
                document = evaluate_run(
                    spec, Path(folder, "evaluation"), adapter=Path(folder, "run", "adapter"), limit=gate.rows,
                    options=Options(allow_code=allow_code),
                )  # fmt: skip
            except NotStarted:
                raise Failed("the audit failed, so nothing was trained") from None
            except Unavailable as missing:
                pytest.skip(reason_of(missing))
        low, high = document["interval"]
        said = (
            f"{gate.metric} {document[gate.metric]:.4f} on {document['n']:,} rows, the gate asks for {gate.at_least} "
            f"(95% interval of the accuracy: {low:.1%} to {high:.1%})"
        )
        if document[gate.metric] < gate.at_least:
            raise Failed(said)
        self.add_report_section("call", "vlcheck", said)


def against_plan(found: ProbeResult) -> str:
    """What a probe measured, beside the upper bound of its plan.

    Raises:
        Failed: if it measured more, or did not finish its steps.
    """
    if found.measured is None:
        raise Failed(f"the steps were not finished: {found.failure}")
    measured, upper = found.measured.allocated_bytes, found.plan.upper_bytes
    said = f"peak {show_gib(measured)} allocated, the plan's upper bound {show_gib(upper)}"
    if measured > upper:
        raise Failed(said)
    return said


def reason_of(missing: Unavailable) -> str:
    """Why a test is skipped, and what would let it run."""
    return f"{missing.reason}{missing.unlock and f'; to unlock: {missing.unlock}'}"


# --------------------------------------------------------------------------- the audit


def audited(config: pytest.Config, spec: RunSpec, path: Path, project: ProjectSettings) -> Report:
    """The report on a config as its project wants it, made once a process."""
    from vlcheck.engine import audit

    kept = config.stash.setdefault(AUDITS, {})
    if path not in kept:
        select, ignore = asked(project)
        report = audit(spec, select=select, ignore=ignore, allow_code=config.option.vlcheck_allow_code)
        kept[path] = weighing(project)(report)
    return kept[path]


def told(outcome: Outcome) -> str:
    """A rule's findings, or what it looked at, in lines."""

    def lines() -> Iterator[str]:
        yield f"{outcome.severity} {outcome.rule.code} {outcome.rule.name}: {outcome.rule.title}"
        for finding in outcome.findings:
            yield f"{finding.where}: {finding.message}"
            yield from [f"  measured: {show_measured(finding.measured)}"] if finding.measured else []
            yield from [f"  fix: {finding.fix}"] if finding.fix else []
        yield from (f"examined {examined.count} {examined.what}" for examined in outcome.examined)

    return "\n".join(lines())
