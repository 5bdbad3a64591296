"""`vlcheck.RunCheckCallback`: judge a run inside transformers' Trainer, or TRL's, before its first step."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Literal

import torch
from transformers import TrainerCallback

from vlcheck.finding import Report, Severity
from vlcheck.integrations.check_run import ROWS, autocast_of, framework_of, of_trainer
from vlcheck.integrations.job import Job, Split, judge, whole_batch, with_step
from vlcheck.integrations.places import called_at, collator_at
from vlcheck.spec import ConfigError, Framework, Intent, Location

LOG = logging.getLogger(__name__)

LABELS = ("VLC2", "VLC005", "VLC006")
"""Rules that a bare batch can be held to."""


class RunCheckFailed(Exception):
    """The run was stopped before its first step; `report` holds why."""

    def __init__(self, report: Report, at_least: Severity) -> None:
        roots = [each for each in report.found(at_least) if not each.explained_by]
        found = [(each.rule, finding) for each in roots for finding in each.findings]
        told = "".join(f"\n  {rule.code} {rule.name}: {finding.message} ({finding.where})" for rule, finding in found)
        super().__init__(f"vlcheck stopped this run before its first step:{told}")
        self.report = report


class RunCheckCallback(TrainerCallback):  # type: ignore[misc]  # transformers does not say what it is
    """Judges a run as it begins, and again at its first step; draws no random number and moves no loader.

    Four looks: model, first rows and optimizer when training begins; the mode of the model, and the batch where its
    rows are not known, at the first forward; the gradients before the optimizer's first step; memory behind it.
    Findings are logged as warnings of `vlcheck.integrations.callback`; a sound run is silent.

    Args:
        stop_on: the least severity that stops the run, by `RunCheckFailed`, on every process; None never stops.
        trainer: the trainer, for rows of its evaluation split, which a callback is not told of.
        answers, modalities, rows, select, ignore: as for `vlcheck.check_run`.

    Attributes:
        reports: what was found, in the order of the looks.
    """

    def __init__(
        self,
        stop_on: Literal["error", "warning"] | None = "error",
        *,
        trainer: Any = None,
        answers: Literal["all", "last"] = "all",
        modalities: tuple[str, ...] = ("image", "text"),
        rows: int = ROWS,
        select: Iterable[str] = (),
        ignore: Iterable[str] = (),
    ) -> None:
        if stop_on not in ("error", "warning", None):
            raise ValueError(f"stop_on is {stop_on!r}; allowed: error, warning, None")
        self.reports: list[Report] = []
        self._at_least = Severity[stop_on.upper()] if stop_on else None
        self._trainer, self._select, self._ignore = trainer, tuple(select), tuple(ignore)
        self._options: dict[str, Any] = {"rows": rows, "intent": Intent(answers=answers), "modalities": modalities}
        self._job: Job | None = None
        self._hook: Any = None
        self._step_seen = False
        self._sources: dict[str, Location] = {}

    def on_init_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Remember the line that builds the trainer, which is given all that is judged."""
        self._sources = called_at()

    def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Judge model, rows and optimizer."""
        self._step_seen = False
        self._sources = self._sources or called_at()
        self._job = begun(self._trainer, args, parts)
        self._look(self._job, ignore=("VLC007", "VLC009", "VLC010"))
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **parts: Any) -> None:
        """Wait for the first forward."""
        if self._job is not None and self._hook is None and not self._step_seen:
            self._hook = model.register_forward_pre_hook(self._forward, with_kwargs=True)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Judge the gradients of the first step, while it can still be stopped."""
        if self._job is not None and not self._step_seen:
            self._step_seen = True
            self._unhook()
            self._look(self._job, select=("VLC009",))

    def on_step_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Hold what the first step took against the projection."""
        if self._job is not None and self._step_seen and torch.cuda.is_available():
            job, self._job = self._job, None
            self._look(with_step(job, peak_bytes=torch.cuda.max_memory_allocated()), select=("VLC010",), stop=False)
        self._job = None

    def on_train_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Let go of the run."""
        self._unhook()
        self._job = None

    def _forward(self, module: Any, positional: Any, named: dict[str, Any]) -> None:
        assert self._job is not None, "the hook is removed with the job"
        self._unhook()
        job = with_step(self._job, mode=module.training)
        known = self._job.training.dataset is not None and hasattr(self._job.training.dataset, "__getitem__")
        if known:
            self._look(job, select=("VLC007",))
        else:
            self._look(with_step(job, training=whole_batch(named)), select=("VLC007", *LABELS))

    def _unhook(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _look(
        self, job: Job, *, select: tuple[str, ...] = (), ignore: tuple[str, ...] = (), stop: bool = True
    ) -> None:  # fmt: skip
        """Judge; log what was found; stop every process where one has to stop.

        Raises:
            RunCheckFailed: where a finding is as severe as `stop_on`, on this process or another.
        """
        report = self._report(job, select, ignore)
        failed = report is not None and self._at_least is not None and bool(report.found(self._at_least))
        if report is not None:
            self.reports.append(report)
            if report.found(Severity.WARNING) and _is_main():
                LOG.warning("%s", report.text())
        if stop and _anywhere(failed, next(job.model.parameters()).device):
            self._unhook()
            self._job = None
            if report is None or self._at_least is None or not failed:
                raise RuntimeError("vlcheck stopped this run on another process, which says why")
            raise RunCheckFailed(report, self._at_least)

    def _report(self, job: Job, select: tuple[str, ...], ignore: tuple[str, ...]) -> Report | None:
        """None where nothing that was selected is looked at now, or vlcheck cannot judge such a run."""
        try:
            rules = tuple(code for code in select if not self._select or code.startswith(self._select))
            if select and not rules:
                return None
            return judge(
                job,
                **self._options,
                sources={**self._sources, **collator_at(job.training.collate)},
                select=rules or self._select,
                ignore=(*ignore, *self._ignore),
            )
        except ConfigError as error:
            LOG.warning("this run was not judged: %s", error)
            return None


def begun(trainer: Any, args: Any, parts: dict[str, Any]) -> Job:
    """What a callback is told of a run that begins; the rows of its evaluation split, where its trainer is known."""
    loader = parts.get("train_dataloader")
    job = of_trainer(trainer) if trainer is not None else None
    framework: Framework = "transformers"
    if job is not None:
        framework = framework_of(trainer)
    elif type(args).__module__.startswith("trl."):
        framework = "trl"
    return Job(
        parts["model"],
        Split(getattr(loader, "dataset", None), getattr(loader, "collate_fn", None)),
        job.evaluation if job is not None else Split(),
        processor=parts.get("processing_class"),
        optimizer=getattr(parts.get("optimizer"), "optimizer", parts.get("optimizer")),
        arguments=args,
        framework=framework,
        autocast=autocast_of(args, parts["model"]),
    )


def _is_main() -> bool:
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not distributed or torch.distributed.get_rank() == 0


def _anywhere(failed: bool, device: torch.device) -> bool:
    """Whether any process has to stop: all of them, then, so that none waits for another."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return failed
    told = torch.tensor([int(failed)], device=device)
    torch.distributed.all_reduce(told, op=torch.distributed.ReduceOp.MAX)
    return bool(told.item())
