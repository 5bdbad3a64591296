"""What a rehearsal hands to its parent: the report on the live objects, as the parent prints it."""

from __future__ import annotations

from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlcheck.config.project import read_project
from vlcheck.engine import report_on
from vlcheck.evidence.resolve import Evidence
from vlcheck.finding import Report, Severity
from vlcheck.integrations.job import Job, evidence_of, judge
from vlcheck.integrations.places import collator_at
from vlcheck.integrations.rehearsal.stage import Stage
from vlcheck.model.config import find_config
from vlcheck.reports import RENDERERS
from vlcheck.reports.project import weighing
from vlcheck.rules.choosing import choose_live
from vlcheck.spec import Hardware

ROWS = 8
"""Rows of each split that are collated and judged, at most."""


def judged(stage: Stage, job: Job, stopped: str = "") -> dict[str, Any]:
    """The report in every format that is wanted, and its exit code.

    Args:
        stopped: why the first step could not be taken; empty where it was.
    """
    options = stage.options
    try:
        report = _report(stage, job)
        with chdir(options["home"]):  # where the project's file, and what its baseline names, are looked for
            report = weighing(read_project(Path(stage.shown).parent))(report)
    except Exception as error:  # whatever a script's objects are
        return {"failure": f"the run could not be judged: {type(error).__name__}: {' '.join(str(error).split())[:500]}"}
    fail_on = Severity[options["fail_on"]]
    own = {"junit": {"fail_on": fail_on}}
    reports = {form: RENDERERS[form](report, **own.get(form, {})) for form in options["forms"]}
    code = report.exit_code(fail_on=fail_on, strict=options["strict"])
    failures = [*stage.stopping, *([f"the first step: {stopped}"] if stopped else [])]
    return {"reports": reports, "code": code, "failure": "; ".join(failures)}


def _report(stage: Stage, job: Job) -> Report:
    """The live objects judged as they are, and memory as the run takes it at full size on the card that is named."""
    options = stage.options
    chosen: dict[str, Any] = {"select": tuple(options["select"]), "ignore": tuple(options["ignore"])}
    rows = min(stage.rows, ROWS)
    sources = {**stage.sources(), **collator_at(job.training.collate, stage.place_in, stage.wrote)}
    report = judge(job, rows=rows, sources=sources, **chosen)
    outcomes = tuple(outcome for outcome in report.outcomes if not outcome.rule.code.startswith("VLC3"))
    report = replace(report, outcomes=outcomes)
    if not (options["gpu"] or options["memory_gib"]):
        return report
    rules = tuple(rule for rule in choose_live(**chosen) if rule.code.startswith("VLC3"))
    spec = replace(report.spec, hardware=Hardware(gpu=options["gpu"], memory_gib=options["memory_gib"]))
    measured = evidence_of(job, spec, rows=rows).get("lengths")
    full = Evidence(spec, {"config": find_config(spec, offline=True), "lengths": measured}, offline=True)
    memory = report_on(spec, rules, full)
    facts = {name: memory.subject[name] for name in ("gpu", "memory") if name in memory.subject}
    return replace(
        report, spec=spec, outcomes=(*report.outcomes, *memory.outcomes), subject={**report.subject, **facts}
    )
