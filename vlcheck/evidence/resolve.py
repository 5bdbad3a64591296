"""What rules are judged on: named evidence, each piece collected once, when a rule asks for it."""

from __future__ import annotations

import inspect
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from vlcheck.evidence.collectors import COLLECTORS
from vlcheck.evidence.judged import UNSEEN, judged, told_by
from vlcheck.evidence.labels import foreign
from vlcheck.evidence.model import Skeleton
from vlcheck.evidence.options import Options
from vlcheck.finding import Examined, Finding, NotApplicable, Outcome, Rule, Unavailable, Verdict, label_of
from vlcheck.model.build import base_of
from vlcheck.processing.processor import FoundProcessor
from vlcheck.spec import ConfigError, RunSpec

GIVEN = ("model", "saved_adapter", "collator", "live_run")
"""Evidence that is handed in, or is not there."""


class Evidence:
    """A run's evidence: collected on first use, or handed in by the caller.

    Args:
        given: evidence by name that is not to be collected.
        progress: told what is being worked on: a collector's label while it works, and again what it was called for.
        collectors: every collector by name, where some are to be had otherwise than an audit has them.
        options: fields of `Options`.

    Raises:
        TypeError: if `given` names evidence that no collector knows.
    """

    def __init__(
        self,
        spec: RunSpec,
        given: Mapping[str, Any],
        *,
        progress: Callable[[str], None] = lambda step: None,
        collectors: Mapping[str, Callable[..., Any]] = COLLECTORS,
        **options: Any,
    ) -> None:
        self._collectors = collectors
        known = {*GIVEN, *collectors}
        if unknown := sorted(set(given) - known):
            raise TypeError(f"no evidence is called {unknown[0]!r}; known: {', '.join(sorted(known))}")
        self._known: dict[str, Any] = {
            "spec": spec,
            "options": Options(**options),
            "progress": progress,
            **given,
        }
        if "processor" in given and not isinstance(given["processor"], FoundProcessor):
            self._known["processor"] = FoundProcessor(given["processor"], "processor that was handed in")
        if "collator" in given:
            self._known["candidate"] = foreign(given["collator"], "the collator that was handed in", spec)
        if "model" in given:
            self._known["skeleton"] = Skeleton(base_of(given["model"]), live=True, peft=given["model"])
        self._failed: dict[str, Exception] = {}
        self._progress, self._label = progress, ""

    def call(self, function: Callable[..., Any], label: str = "") -> Any:
        """Call a function with the evidence that its parameters name.

        Args:
            label: what the function does, for whoever waits.
        """
        outer, self._label = self._label, label or self._label
        self._tell()
        try:
            return function(**dict(self._arguments(function)))
        finally:
            self._label = outer
            self._tell()

    def _arguments(self, function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
        """Evidence by parameter; one with a default keeps it where its evidence cannot be had."""
        for name, parameter in inspect.signature(function).parameters.items():
            try:
                yield name, self.get(name)
            except (Unavailable, NotApplicable):
                if parameter.default is inspect.Parameter.empty:
                    raise

    def get(self, name: str) -> Any:
        """A piece of evidence, collected if it is not there yet.

        Raises:
            Unavailable, NotApplicable, ConfigError: as its collector did, the first time and every time after.
            KeyError: if no collector has this name.
        """
        if name in self._failed:
            raise self._failed[name]
        if name not in self._known:
            collector = self._collectors[name]
            try:
                self._known[name] = self.call(collector, label_of(collector))
            except (Unavailable, NotApplicable, ConfigError) as failure:
                self._failed[name] = failure
                raise
        return self._known[name]

    def subject(self) -> dict[str, Any]:
        """What was audited, as far as it was looked at."""
        spec: RunSpec = self._known["spec"]
        subject: dict[str, Any] = {"model": spec.model.id}
        if "config" in self._known:
            subject["config_origin"] = self._known["config"].origin
        if "family" in self._known:
            subject["family"] = self._known["family"].name
        if "reference" in self._known:
            subject["parameters"] = sum(p.numel() for p in self._known["reference"].parameters())
        if "saved_adapter" in self._known:
            subject["adapter"] = str(self._known["saved_adapter"].folder)
        return {**subject, "patches": self._patches(), **judged(self._known)}

    def remarks(self) -> tuple[str, ...]:
        """What a reader must know to weigh the findings."""
        family = self._known.get("family")
        doubt = (family.doubt,) if family is not None and family.doubt else ()
        framework: tuple[str, ...] = (*self._without_adapters(), *self.get("framework_remarks"))
        patches, told = self._patches(), told_by(self.subject())
        if patches == UNSEEN:
            return (told[0], *doubt, *framework, *told[1:], *self._unread_data())
        return (patches, *doubt, *framework, *told, *self._unread_data())

    def _without_adapters(self) -> tuple[str, ...]:
        spec: RunSpec = self._known["spec"]
        if spec.lora is not None:
            return ()
        frozen = f", but for {' and '.join(spec.training.freeze)}" if spec.training.freeze else ""
        return (f"the run has no lora: every weight is trained{frozen}, and no rule about adapters applies",)

    def _unread_data(self) -> tuple[str, ...]:
        """That nothing was seen of data which the run names, or not every image."""
        scan = self._known.get("scan")
        if scan is not None and not any(count.rows for count in scan.splits.values()):
            return (f"NO DATA WAS READ: none of {scan.bad_rows.count:,} rows can be used, so no row was judged",)
        if scan is not None and scan.passed_over:
            lengths = self._known.get("lengths")
            whole = lengths is not None and lengths.rows and not lengths.unread
            measured = "; lengths are those of all rows" if whole else ""
            return (
                f"{scan.looked_at:,} of {scan.looked_at + scan.passed_over:,} images were decoded, spread over the "
                f"data: duplicates and broken files among the others were not looked for{measured}",
            )
        if not isinstance(self._failed.get("scan"), Unavailable):
            return ()
        return ("NO DATA WAS READ: no row of the run was judged",)

    def _patches(self) -> str:
        """Which model the findings are about."""
        spec: RunSpec = self._known["spec"]
        options: Options = self._known["options"]
        skeleton = self._known.get("skeleton")
        if skeleton is not None and skeleton.live:
            return "the model object that was handed in was judged, in place of one built from the config"
        if spec.model.patch is None:
            return UNSEEN
        if not options.allow_code:
            return (
                f"model.patch {spec.model.patch} was not run (that takes --allow-code): everything here describes the "
                "unpatched model"
            )
        return f"model.patch {spec.model.patch} was run"

    def _tell(self) -> None:
        if self._label:
            self._progress(self._label)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread: what an audit computes is too small for several, which wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
        for said in evidence.call(rule.check, f"judging {rule.code} {rule.name}"):
            if isinstance(said, Finding):
                findings.append(said)
            else:
                examined.append(said)
        if findings:
            verdict = Verdict.FOUND
        if fault := rule.fault(findings, examined):
            verdict, reason = Verdict.ERROR, fault
    except ConfigError:
        raise
    except NotApplicable as none:
        verdict, reason = Verdict.NOT_APPLICABLE, str(none)
    except Unavailable as missing:
        verdict, reason, unlock = Verdict.SKIPPED, missing.reason, missing.unlock
    except Exception:  # one bad rule must not hide the others
        verdict, reason = Verdict.ERROR, traceback.format_exc()
    return Outcome(rule, verdict, tuple(findings), tuple(examined), reason, unlock, seconds=time.perf_counter() - start)
