"""The reference QLoRA trainer: one loop, straight from the first row to the saved adapter.

It differs from transformers' Trainer in what the detectors look for: the loss is summed over the supervised ids of
the *effective* batch and divided by their number, so that accumulation and the number of processes change nothing;
logits are computed where a label needs them; nothing that a row holds is dropped.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator

from vlcheck.data.progress import Progress
from vlcheck.model.build import Patch
from vlcheck.model.family import Family, Values
from vlcheck.processing.collator import Collator, to_device
from vlcheck.spec import RunSpec
from vlcheck.training.card_memory import compare_peak, measured_memory
from vlcheck.training.checkpoint import Found
from vlcheck.training.compiled import compiled_line, why_not
from vlcheck.training.content import content_of
from vlcheck.training.course import Course, metric_of
from vlcheck.training.effective import Counts, counted, weighed
from vlcheck.training.evaluation import Evaluator
from vlcheck.training.feed import feed
from vlcheck.training.identity import chosen
from vlcheck.training.keeper import Keeper
from vlcheck.training.order import Listed, Order, Streamed
from vlcheck.training.record import Record, Silent
from vlcheck.training.replay import keep_batches
from vlcheck.training.rows import Rows, check_share
from vlcheck.training.settings import settings_of
from vlcheck.training.setup import build, make_accelerator, order_of
from vlcheck.training.step import autocast, finish, micro_step
from vlcheck.training.summary import closing_lines, make_up, recorded, summary
from vlcheck.training.watch import NotFinite, RunStopped, Watch, check_processes, norms_by_part


@dataclass(frozen=True)
class Trained:
    """What a run left behind."""

    adapter: Path
    steps: int
    resumed_from: int = 0
    """Step of the checkpoint that the run was taken up from."""
    first_loss: float = math.nan
    last_loss: float = math.nan
    seconds: float = 0.0
    unreadable: tuple[tuple[str, str], ...] = ()


def train(  # noqa: PLR0913  the parts of a run
    spec: RunSpec,
    *,
    config: Values,
    family: Family,
    collator: Collator,
    rows: Rows,
    projected: tuple[int, int] | None = None,
    patch: Patch | None = None,
    origin: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: Progress = lambda step: None,
) -> Trained:
    """Train a run's adapters, or take the run up where its newest checkpoint ends.

    Args:
        config: the model's config.json.
        collator: the object that the audit judges.
        projected: allocated bytes that the memory plan for this card expects, and its upper bound.
        patch: the user's monkeypatch, where they allowed it to run.
        origin: checkpoint of a shorter run that this one goes on from, see `extended`.
        say: told one line at a time.
        progress: told how many rows were compared with those of an interrupted run; an empty line at the end of that.

    Raises:
        ConfigError: for settings that this loop does not support, or a split without rows.
        RunStopped: where going on makes no sense; the last finished step is on disk.
        OtherRun: if the output folder belongs to a run with other settings.
        ForeignFiles: if it holds files that are not vlcheck's where this run would write.
        FolderTaken: if another run writes there.
        CheckpointNotWritten: if the disk does not take what must be kept.
        BadRow: at a row that cannot be trained for another reason than an unreadable image.
        AdapterRefused, UnbuildableConfig: as `build_model` does.
    """
    accelerator = make_accelerator(spec)
    rank, processes = accelerator.process_index, accelerator.num_processes
    say = _nothing if rank else say
    order = order_of(spec, None if rows.stream else len(rows.conversations), processes)
    check_share(dict(rows.broken), order.rows + len(rows.broken), spec.data.max_unreadable)
    processor = collator.processor
    content = content_of(
        spec, config=config, processor=processor, conversations=rows.conversations,
        evaluation=rows.evaluation if chosen(spec) else (), patch=patch, progress=progress,
    )  # fmt: skip
    progress("")
    source = Streamed(rows.stream, order.seed) if rows.stream else Listed(rows.conversations, order)
    keeper = Keeper(spec, order, rank, content, source, origin)
    with contextlib.ExitStack() as claim:
        if keeper.finished() is None or not recorded(keeper.folder):
            claim.enter_context(keeper.claimed(say))
        accelerator.wait_for_everyone()
        if (done := keeper.finished()) is not None:
            if not rank and not recorded(keeper.folder):
                make_up(done, spec, keeper.identity, processes, say)
            say(f"nothing to do: {done} is the adapter that this very run has left")
            return Trained(done, order.steps, order.steps)
        try:
            return _train_claimed(
                spec, accelerator, keeper, source, order, config=config, family=family, collator=collator, rows=rows,
                projected=projected, patch=patch, say=say,
            )  # fmt: skip
        except RuntimeError as broken:
            if processes > 1:
                check_processes(broken)
            raise


def _train_claimed(  # noqa: PLR0912, PLR0913, PLR0915  one loop, to be read from top to bottom
    spec: RunSpec,
    accelerator: Accelerator,
    keeper: Keeper,
    source: Listed | Streamed,
    order: Order,
    *,
    config: Values,
    family: Family,
    collator: Collator,
    rows: Rows,
    projected: tuple[int, int] | None,
    patch: Patch | None,
    say: Callable[[str], None],
) -> Trained:
    """Train into a folder that this run alone writes to."""
    rank, processes, device = accelerator.process_index, accelerator.num_processes, accelerator.device
    total = order.rows + len(rows.broken)
    unreadable = dict(rows.broken)

    live, settings = build(spec, config, accelerator, order, patch, all_used=rows.all_used), settings_of(spec)
    found, kept = keeper.resume(live.state)
    accelerator.wait_for_everyone()
    keeper.check_room(live.state)
    begun_at = step = found.checkpoint.step if found.checkpoint else 0
    unreadable |= dict(kept.get("unreadable", ()))

    with contextlib.ExitStack() as stack:
        record = stack.enter_context(
            Silent() if rank else Record(keeper.folder, order.steps, say, spec, keeper.identity)
        )
        evaluator = Evaluator(spec, order, rows.evaluation, collator, live, accelerator, keeper.course, record)
        _tell_start(found, rows, record)
        _tell_compiled(spec, order, live.compiled, record)
        for change in keeper.changes(kept):
            record.event("changed", f"warning: resumed with {change}")
        watch = Watch(live.names, family, spec.intent)
        keeper.capture(step, live.state, unreadable)
        stack.enter_context(keeper.guarded(record.last_words))
        first_loss = last_loss = math.nan
        start = ready = time.perf_counter()
        if evaluator.after(step):  # the process before ended between the step and its evaluation
            keeper.capture(step, live.state, unreadable)

        workers = spec.training.dataloader_num_workers
        for micro_batches in feed(source, order, collator, rank=rank, start=step, workers=workers):
            if keeper.course.over:
                record.event("early-stop", _why_stopped(step, keeper.course), step=step)
                break
            step, begun = step + 1, time.perf_counter()
            keeper.pictures.note(digest for micro in micro_batches for digest in micro.digests)
            counts = counted(micro_batches, processes)
            _tell_left_out(step, counts, unreadable, record)
            check_share(unreadable, total, spec.data.max_unreadable)
            if not counts.supervised:
                record.event("empty-step", f"step {step}: every row was left out, so nothing is learnt", step=step)
                live.state.schedule.step()
                continue

            # ------------------------------------------------------ forward, backward
            loss = torch.zeros((), device=device)
            for number, (batch, share) in enumerate(weighed(micro_batches, counts.supervised), 1):
                alone = number < len(micro_batches)  # processes exchange gradients in the last backward pass only
                with accelerator.no_sync(live.model) if alone else contextlib.nullcontext():
                    mean = micro_step(
                        live.model,
                        to_device(batch, device),
                        supervised_only=settings.supervised_only,
                        context=functools.partial(autocast, settings.precision, device.type),
                        share=share * processes,  # DDP divides by the number of processes
                    )
                loss += mean * share
            last_loss = float(accelerator.reduce(loss, "sum"))

            # ------------------------------------------------------ look, clip, step
            norms = {part: float(norm) for part, norm in norms_by_part(live.names, family).items()}
            try:
                record.warn(watch.step(step, last_loss, norms))
            except NotFinite as stopped:
                folder = keep_batches(keeper.folder, step, rank, micro_batches)
                keeper.save_now()
                raise NotFinite(f"{stopped}; its batches are in {folder}, step {step - 1} is on disk") from None
            rate = live.state.schedule.get_last_lr()[0]
            finish(live.parameters, live.state.optimizer, settings.max_grad_norm)
            live.state.schedule.step()
            record.warn(watch.moved(step))

            # ------------------------------------------------------ keep, record
            stepped = time.perf_counter()
            keeper.capture(step, live.state, unreadable)
            ended = time.perf_counter()
            first_loss = last_loss if math.isnan(first_loss) else first_loss
            record.step({
                "step": step,
                "epoch": round(min(step * order.effective_batch, order.total) / order.rows, 4),
                "loss": last_loss,
                "learning_rate": rate,
                "grad_norm": {**norms, "total": math.hypot(*norms.values())},
                "supervised": counts.supervised,
                "tokens": counts.tokens,
                "images": counts.images,
                "seconds": ended - ready,
                "wait_seconds": begun - ready,
                "snapshot_seconds": ended - stepped,
                "images_per_second": counts.images / (ended - ready),
                "seconds_left": (ended - start) / (step - begun_at) * (order.steps - step),
                **measured_memory(),
            })  # fmt: skip
            if step == begun_at + 1 and live.compiled:
                record.event("compiled", compiled_line(ended - begun))
            if step == begun_at + 2:
                compare_peak(projected, record)
            if evaluator.after(step):
                keeper.capture(step, live.state, unreadable)
            keeper.save_if_due(step, record, first=step == begun_at + 1)
            ready = time.perf_counter()

        accelerator.wait_for_everyone()
        if math.isnan(first_loss) and not begun_at:
            raise RunStopped(f"nothing was learnt: every row of all {step} steps was left out")
        trained = Trained(
            keeper.publish_adapter(), step, begun_at, first_loss, last_loss, time.perf_counter() - start,
            tuple(sorted(unreadable.items())),
        )  # fmt: skip
        if not rank:
            document = summary(vars(trained), spec, keeper.identity, processes, keeper.folder)
            record.finish(f"{trained.adapter}: the adapter after {trained.steps} steps", document)
            for line in closing_lines(document):
                record.last_words(line)
        accelerator.wait_for_everyone()
    return trained


def _tell_start(found: Found, rows: Rows, record: Record) -> None:
    for text in found.broken.values():
        record.event("broken-checkpoint", f"warning: passed over: {text}")
    if found.checkpoint is not None:
        record.event("resumed", f"resumed from {found.checkpoint.folder}", after=found.checkpoint.step)
    for name, reason in rows.broken:
        record.event("unreadable", f"left out: {name}: {reason}", row=name)


def _tell_compiled(spec: RunSpec, order: Order, layers: int, record: Record) -> None:
    if layers:
        record.event("compiling", f"{layers} layers are compiled; the first step waits for that", layers=layers)
    elif spec.training.torch_compile:
        record.event("not-compiled", f"nothing is compiled: {why_not(order)}")


def _why_stopped(step: int, course: Course) -> str:
    return (
        f"stopped early behind step {step}: {course.worse} evaluations were no better than that of step "
        f"{course.best_step} ({metric_of(course.training)} {course.best:.4g})"
    )


def _tell_left_out(step: int, counts: Counts, unreadable: dict[str, str], record: Record) -> None:
    for name, reason in counts.unreadable.items():
        if name not in unreadable:
            record.event("unreadable", f"step {step}: left out: {name}: {reason}", row=name)
            unreadable[name] = reason
    for text in counts.dropped:
        record.event("too-long", f"step {step}: left out: {text}")


def _nothing(line: str) -> None:
    pass
