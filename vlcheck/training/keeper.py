"""What keeps a run's state safe: when a checkpoint is due, where it lies, what a signal does."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object

from vlcheck.spec import RunSpec
from vlcheck.training.checkpoint import (
    Checkpoint,
    CheckpointNotWritten,
    Content,
    Found,
    check_newest,
    check_same_run,
    check_writable,
    find_newest,
    free_name,
    prune,
    publish,
    verify,
)
from vlcheck.training.compiled import compiles
from vlcheck.training.course import Course
from vlcheck.training.extend import LENGTH
from vlcheck.training.guard import Guard
from vlcheck.training.identity import changes, identity_of
from vlcheck.training.lease import Lease, LeaseLost
from vlcheck.training.manifest import BrokenCheckpoint
from vlcheck.training.order import Listed, Order, Streamed
from vlcheck.training.ours import ADAPTER_FOLDER, check_ours, folders, remove
from vlcheck.training.pictures import Pictures
from vlcheck.training.record import Record
from vlcheck.training.room import check_room
from vlcheck.training.snapshot import ADAPTER, Snapshots, State, restore, rng_state
from vlcheck.versions import installed

GRACE_SECONDS = {"cloud-run": 10.0}
"""From SIGTERM to SIGKILL. Quoted from Google's documentation of Cloud Run, not measured by us."""


class Keeper:
    """Keeps one run's state in `training.output_dir`.

    Args:
        rank: of this process; only process 0 writes.
        content: digests of what the run learns from, see `content_of`.
        source: of the rows; a stream is told by what was consumed of it.
        origin: checkpoint of a shorter run that this one goes on from.
    """

    def __init__(
        self,
        spec: RunSpec,
        order: Order,
        rank: int,
        content: Mapping[str, str],
        source: Listed | Streamed,
        origin: Path | None = None,
    ) -> None:
        self.folder = Path(spec.training.output_dir).expanduser()
        self._spec, self._order, self._rank = spec, order, rank
        self.identity = identity_of(spec, order.effective_batch, content)
        self._source, self._origin = source, origin
        self.course = Course(spec.training)
        self.pictures = Pictures(source.conversations if isinstance(source, Listed) else ())
        self._snapshots = Snapshots()
        self._on_disk: Checkpoint | None = None
        self._broken: Mapping[Path, str] = {}
        self._writing = threading.Lock()
        self._lease: Lease | None = None

    @contextlib.contextmanager
    def claimed(self, say: Callable[[str], None]) -> Iterator[None]:
        """Be the only run that writes to the folder.

        Args:
            say: told that the run waits for another's end.

        Raises:
            OtherRun: if another run's checkpoint lies there.
            ForeignFiles: if things that are not vlcheck's stand where this run would write or remove.
            FolderTaken: if another run writes there.
            CheckpointNotWritten: if the folder cannot be written to.
        """
        if self._rank:
            yield
            return
        check_ours(self.folder)
        check_newest(self.folder, self.identity)
        check_writable(self.folder)
        with Lease(self.folder, say) as self._lease:
            adapter = self.folder / ADAPTER_FOLDER
            if adapter.exists() and self._finished() is None:
                remove(adapter)
            yield

    def finished(self) -> Path | None:
        """The adapter that this very run has left before.

        Raises:
            OtherRun: if another run left one.
        """
        found = self._finished()
        if found is None:
            return None
        check_same_run(found, self.identity)
        return found.folder

    def _finished(self) -> Checkpoint | None:
        try:
            return verify(self.folder / ADAPTER_FOLDER)
        except BrokenCheckpoint:
            return None

    def check_room(self, state: State) -> None:
        """Find out before training what can be known of the disk.

        Raises:
            CheckpointNotWritten: if the folder has no room for what the run keeps.
        """
        if self._rank:
            return
        limit = self._spec.training.save_total_limit
        if self._on_disk is not None:
            prune(self.folder, self._on_disk, limit, self._broken)
        keep = 0 if self._spec.training.save_strategy == "no" else (limit or 1) + 1  # one while the newest is written
        check_room(self.folder, state, keep, best=self._spec.training.load_best_model_at_end)

    def resume(self, state: State) -> tuple[Found, dict[str, Any]]:
        """Take the newest whole checkpoint up, if there is one; returns it and what else it holds.

        Raises:
            OtherRun: if another run wrote it.
            BrokenCheckpoint: if the one of a shorter run is damaged.
            StateMismatch: if it does not fit the model.
        """
        found = find_newest(self.folder, self.identity)
        self._broken, self._on_disk = found.broken, found.checkpoint
        if found.checkpoint is None and self._origin is not None:
            begun = verify(self._origin)
            check_same_run(begun, {**self.identity, **{name: begun.identity.get(name) for name in LENGTH}})
            found = replace(found, checkpoint=begun)
        if found.checkpoint is None:
            return found, {}
        kept = restore(found.checkpoint, state, self._rank, self._order.processes)
        self.course.take_up(kept, found.checkpoint)
        self.pictures.take_up(found.checkpoint)
        if isinstance(self._source, Streamed) and kept.get("stream"):
            self._source.expect(*kept["stream"])
        return found, kept

    def capture(self, step: int, state: State, unreadable: Mapping[str, str]) -> None:
        """Keep a step that has just ended in host memory.

        Raises:
            LeaseLost: if another run writes to the folder now.
        """
        if self._lease is not None:
            self._lease.check_known()
        mine = [(rng_state(), self.pictures.taken())]
        told = gather_object(mine) if self._order.processes > 1 else mine
        self.pictures.merge(seen for _, seen in told)
        if self._rank == 0:
            facts: dict[str, Any] = {
                "unreadable": sorted(unreadable.items()),
                "split": self._split,
                "versions": installed(),
                "evaluation": self.course.told(),
            }
            last = self._order.last_place(step, self._rank)
            if isinstance(self._source, Streamed) and last is not None:
                facts["stream"] = self._source.consumed(last)
            held = self.course.files() | self.pictures.files()
            self._snapshots.capture(step, state, [ranks for ranks, _ in told], held, **facts)

    def changes(self, kept: Mapping[str, Any]) -> Iterator[str]:
        """What is otherwise than in the process that wrote a checkpoint, though it is the same run.

        Args:
            kept: what the checkpoint holds beside its tensors.
        """
        return changes(kept, self._split, installed())

    @property
    def _split(self) -> list[int]:
        compiled = compiles(self._spec.training, self._order)
        return [self._order.micro_batch, self._order.accumulation, self._order.processes, int(compiled)]

    def save_if_due(self, step: int, record: Record, *, first: bool) -> None:
        """Write the step where a checkpoint is due; after the first step of a process too, to see how long it takes."""
        first = first and self._spec.training.save_strategy != "no"
        if self._rank or not (first or self._due(step)):
            return
        started = time.perf_counter()
        try:
            with self._writing:
                self._save()
        except CheckpointNotWritten as refused:
            record.event("checkpoint-not-written", f"warning: checkpoint not written: {refused}", step=step)
            return
        if first:
            self._tell_save_time(time.perf_counter() - started, record)

    def save_now(self) -> None:
        """Write the last finished step."""
        if self._rank == 0:
            with self._writing:
                self._save()

    def publish_adapter(self) -> Path:
        """Write the adapter as PEFT loads it: the last step's, or that of the best evaluation where the run asks so.

        Raises:
            CheckpointNotWritten: if the disk refuses it.
        """
        folder = self.folder / ADAPTER_FOLDER
        if self._rank == 0:
            with self._writing:
                self._check_lease()
                last = self._snapshots.newest
                tensors, step = last.files[ADAPTER], last.step
                if self.course.adapter:
                    tensors, step = self.course.adapter, self.course.best_step
                content = Content({ADAPTER: tensors}, {"adapter_config.json": last.config})
                publish(folder, step, content, self.identity)
                if self._spec.training.save_strategy == "no":  # those that an interruption left
                    for each in folders(self.folder):
                        remove(each)
        return folder

    @contextlib.contextmanager
    def guarded(self, say: Callable[[str], None]) -> Iterator[None]:
        """Have the last finished step written whatever ends the loop.

        SIGTERM, SIGINT, SIGHUP and SIGQUIT end the process at once. An exception does not get past: a run that is
        out of memory at step 40 has lost nothing but step 40.

        Args:
            say: the run's last words.
        """
        with Guard(self._save_last, say):
            try:
                yield
            except BaseException:
                with contextlib.suppress(CheckpointNotWritten, LeaseLost):
                    self.save_now()
                raise

    def _save(self) -> None:
        self._check_lease()
        last = self._snapshots.newest
        if self._on_disk is None or self._on_disk.step != last.step:
            folder = free_name(self.folder, last.step)
            self._on_disk = publish(folder, last.step, last.content, self.identity)
            prune(self.folder, self._on_disk, self._spec.training.save_total_limit, self._broken)

    def _save_last(self) -> str:
        if self._rank:
            return "process 0 writes the checkpoint"
        with self._writing:
            step = self._snapshots.freeze().step
            self._save()
        if self._lease is not None:
            self._lease.release()  # the platform's next attempt need not wait
        return f"step {step} is on disk; start the same command again to go on from there"

    def _check_lease(self) -> None:
        if self._lease is not None:
            self._lease.check()

    def _due(self, step: int) -> bool:
        settings, order = self._spec.training, self._order
        if settings.save_strategy == "no" or step == order.steps:
            return settings.save_strategy != "no"
        by_epoch = settings.save_strategy == "epoch"
        return order.ends_epoch(step) if by_epoch else step % order.whole_steps(settings.save_steps) == 0

    def _tell_save_time(self, seconds: float, record: Record) -> None:
        platform, size = self._spec.launch.platform, self._snapshots.newest.content.size
        grace = GRACE_SECONDS.get(platform, math.inf)
        allowed = f"; {platform} gives {grace:g} s after SIGTERM" if grace < math.inf else ""
        text = f"a checkpoint of {size / 2**20:,.1f} MiB takes {seconds:.2f} s{allowed}"
        record.event("save-time", f"warning: {text}" if seconds > grace else text, seconds=seconds, bytes=size)
