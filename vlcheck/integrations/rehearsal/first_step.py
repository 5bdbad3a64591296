"""Where a script is stopped: as a trainer begins, or at a loop's first optimizer step."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import transformers
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers import ProcessorMixin, TrainerCallback

from vlcheck.config.project import read_project
from vlcheck.engine import report_on
from vlcheck.evidence.resolve import Evidence
from vlcheck.finding import Report, Severity
from vlcheck.integrations.callback import begun
from vlcheck.integrations.job import Job, Split, evidence_of, judge, with_step
from vlcheck.integrations.rehearsal.stage import Stage
from vlcheck.model.config import find_config
from vlcheck.model.dropout import dropouts
from vlcheck.reports import RENDERERS
from vlcheck.reports.project import weighing
from vlcheck.rules.choosing import choose_live
from vlcheck.spec import Hardware


def stop_at_first_step(stage: Stage) -> None:
    """Judge the run there, and end the process."""
    _trainers(stage)
    _accelerate(stage)
    register_optimizer_step_pre_hook(lambda optimizer, given, options: _in_loop(stage, optimizer))


class _FirstStep(TrainerCallback):  # type: ignore[misc]  # transformers does not say what it is
    """Judges a trainer whose model, optimizer and loader are ready, at its first forward if not before.

    Forward and backward are not computed: a head over a whole vocabulary takes a CPU minutes.
    """

    def __init__(self, stage: Stage, trainer: Any) -> None:
        self.stage, self.trainer = stage, trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **parts: Any) -> None:
        """The end of the rehearsal, if something is wrong already; else the first forward tells the mode."""
        self.stage.replace(f"{type(self.trainer).__name__}.train: stopped at its first step")
        job = begun(self.trainer, args, {**parts, "model": model})
        found = _judged(self.stage, job)
        if found.get("code") != 0:
            self.stage.end(lambda: found)

        def forward(module: Any, given: Any) -> None:
            whole = with_step(job, mode=module.training)
            self.stage.end(lambda: _judged(self.stage, whole) if dropouts(module).off else found)

        model.register_forward_pre_hook(forward)


def _trainers(stage: Stage) -> None:
    whole = transformers.Trainer.train

    def train(self: Any, *given: Any, **options: Any) -> Any:
        self.add_callback(_FirstStep(stage, self))
        return whole(self)  # no checkpoint is taken up

    transformers.Trainer.train = train


def _accelerate(stage: Stage) -> None:
    """What a script hands to `prepare` is what it trains."""
    from accelerate import Accelerator

    whole = Accelerator.prepare

    def prepare(self: Any, *given: Any, **options: Any) -> Any:
        prepared = whole(self, *given, **options)
        stage.prepared += given
        return prepared

    Accelerator.prepare = prepare


def _in_loop(stage: Stage, optimizer: Any) -> None:
    """The objects of a loop: those it handed to accelerate, and those that stand in its own names."""
    held = [*stage.prepared, *_named(stage)]
    own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    models = [each for each in held if isinstance(each, nn.Module) and any(p.requires_grad for p in each.parameters())]
    stepped = [each for each in models if any(id(parameter) in own for parameter in each.parameters())]
    model = max(stepped or models, key=lambda each: sum(1 for _ in each.modules()), default=None)
    if model is None:
        stage.end(lambda: {"failure": "the loop's model was not found among its names"})
        return
    loaders = [each for each in held if hasattr(each, "dataset") and hasattr(each, "collate_fn")]
    batch = next(
        (each for each in held if isinstance(each, dict | transformers.BatchFeature) and "labels" in each), None
    )
    training = Split(loaders[0].dataset, loaders[0].collate_fn) if loaders else Split()
    if not loaders and batch is not None:
        training = Split(batches=(dict(batch),))
    job = Job(
        model,
        training,
        processor=next((each for each in held if isinstance(each, ProcessorMixin)), None),
        optimizer=optimizer,
        mode=model.training,
    )
    stage.replace("optimizer.step: stopped before the first one")
    stage.end(lambda: _judged(stage, job))


def _named(stage: Stage) -> Iterator[Any]:
    """Values of the names in the script's own frames, the innermost first."""
    frame: Any = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename == str(stage.script):
            yield from frame.f_locals.values()
            yield from frame.f_globals.values()
        frame = frame.f_back


def _judged(stage: Stage, job: Job) -> dict[str, Any]:
    """The report, as the parent prints it."""
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
    return {"reports": reports, "code": report.exit_code(fail_on=fail_on, strict=options["strict"])}


def _report(stage: Stage, job: Job) -> Report:
    """The live objects judged as they are, and memory as the run takes it at full size on the card that is named."""
    options = stage.options
    chosen: dict[str, Any] = {"select": tuple(options["select"]), "ignore": tuple(options["ignore"])}
    rows = min(stage.rows, 8)
    report = judge(job, rows=rows, sources=stage.sources(), **chosen)
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
