"""What a terminal shows while libraries work: a spinner or lines of ours, and none of their chatter."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vlcheck.cli.streams import COULD_NOT_RUN, fail, process_number

if TYPE_CHECKING:
    from rich.live import Live

QUIET = {  # read by the libraries when they are imported
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "BITSANDBYTES_NOWELCOME": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}
PATIENCE_SECONDS = 1.0


@dataclass(frozen=True)
class Voice:
    """How work speaks to the terminal past the silence around it."""

    progress: Callable[[str], None]
    """Told the current step, for the spinner; an empty one takes it away."""
    line: Callable[[str], None]
    """Prints a line on stdout in the spinner's place; a reader that went away is no error."""


@contextlib.contextmanager
def working(debug: bool, *, allow_code: bool = False) -> Iterator[Voice]:
    """Let libraries work in silence; what cannot be done for a reason that a user can act on ends in one line.

    Args:
        debug: let them speak, and raise what stops the work as it is.
        allow_code: find the user's modules where a training script finds them.
    """
    if allow_code:
        sys.path.append(str(Path.cwd()))  # last, so that none is shadowed
    reason, alone = "", False
    with (
        spinner() as progress,
        _lines(progress) as line,
        contextlib.nullcontext() if debug else quieted(),
    ):
        progress("importing torch")
        try:
            yield Voice(progress, line)
        except Exception as stopped:
            reason = _reason(stopped)
            if debug or not reason:
                raise
            alone = _alone(stopped)
    if reason:
        number = process_number()
        if number and not alone:  # the first process says it
            raise typer.Exit(COULD_NOT_RUN)
        fail(f"process {number}: {reason}" if number else reason)


def refusals() -> tuple[type[Exception], ...]:
    """What ends work for a reason that a user can act on."""
    import torch

    from vlcheck.data.conversation import BadRow
    from vlcheck.data.sources.row import NoSuchSplit
    from vlcheck.evaluation.merge_folder import MergeFailed
    from vlcheck.finding import NotApplicable, Unavailable
    from vlcheck.model.build import AdapterRefused, UnbuildableConfig
    from vlcheck.training.checkpoint import CheckpointNotWritten, OtherRun
    from vlcheck.training.lease import FolderTaken
    from vlcheck.training.ours import ForeignFiles
    from vlcheck.training.snapshot import StateMismatch
    from vlcheck.training.watch import RunStopped

    return (
        AdapterRefused, UnbuildableConfig, NotApplicable, Unavailable, NoSuchSplit, BadRow, CheckpointNotWritten,
        OtherRun, ForeignFiles, FolderTaken, MergeFailed, StateMismatch, RunStopped, torch.OutOfMemoryError,
    )  # fmt: skip


def _alone(stopped: Exception) -> bool:
    """Whether one of several processes may have met with it, and no other."""
    import torch

    from vlcheck.data.conversation import BadRow
    from vlcheck.training.watch import NotFinite, ProcessLost, RunStopped

    told_by_all = isinstance(stopped, NotFinite | ProcessLost)
    return isinstance(stopped, BadRow | RunStopped | torch.OutOfMemoryError) and not told_by_all


def _reason(stopped: Exception) -> str:
    """The line for what a user can act on; empty for a fault of ours, and for what has lines of its own."""
    from vlcheck.spec import ConfigError

    if isinstance(stopped, ConfigError):
        return ""
    if isinstance(stopped, ImportError):
        return f"cannot import what this command needs: {stopped}"
    if not isinstance(stopped, refusals()):
        return ""
    unlock = getattr(stopped, "unlock", "")
    return " ".join(f"{stopped}{unlock and f'; {unlock}'}".split())


@contextlib.contextmanager
def _lines(progress: Callable[[str], None]) -> Iterator[Callable[[str], None]]:
    """A way to the stdout of now, whatever stands in its place meanwhile."""
    out = sys.stdout

    def line(text: str) -> None:
        progress("")
        if out is not None:
            with contextlib.suppress(BrokenPipeError):
                print(text, file=out, flush=True)

    yield line


def _nothing(step: str) -> None:
    """Where no spinner is wanted."""


@contextlib.contextmanager
def quieted() -> Iterator[None]:
    """Keep warnings, log records, progress bars and prints of libraries from the terminal."""
    for name, setting in QUIET.items():
        os.environ.setdefault(name, setting)
    silenced = logging.root.manager.disable
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,  # noqa: PTH123  a Path has nothing to add to a device
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(silenced)


@contextlib.contextmanager
def spinner() -> Iterator[Callable[[str], None]]:
    """Show the current step on stderr once the work takes longer than a second; yields what to tell it.

    An empty step takes it away until the next one. Without a terminal there is nothing to show. Enter this before
    `quieted`, which takes stderr away.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield _nothing
        return
    wheel = _Wheel()
    try:
        yield wheel.show
    finally:
        wheel.show("")


class _Wheel:
    """One line of a terminal that turns while a step lasts."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(file=sys.stderr)
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._text = ""

    def show(self, step: str) -> None:
        """Tell the step; an empty one takes the line away, and waits until it is gone."""
        with self._lock:
            self._text = step
            if step and self._timer is None:
                self._live = self._made()
                self._timer = threading.Timer(PATIENCE_SECONDS, self._live.start)
                self._timer.daemon = True
                self._timer.start()
            elif not step and self._timer is not None:
                self._timer.cancel()
                self._timer.join()
                self._timer = None
                self._live.stop()

    def _made(self) -> Live:
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.text import Text

        wheel = Spinner("dots")

        def drawn() -> Spinner:
            text = Text(self._text)
            text.truncate(self._console.width - 3, overflow="ellipsis")
            wheel.update(text=text)
            return wheel

        return Live(
            get_renderable=drawn, console=self._console, transient=True, redirect_stdout=False, redirect_stderr=False
        )
