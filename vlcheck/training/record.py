"""What a run leaves to read: a JSON line a step, lines or a bar on the terminal, TensorBoard where it is installed."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from vlcheck.charts import draw_curve
from vlcheck.data.atomic_write import write_whole
from vlcheck.training.ours import BOARD, CURVE, METRICS, SUMMARY, SUMMARY_SCHEMA


class Record:
    """Writes down what happens in a run.

    Args:
        folder: of the run; `metrics.jsonl` there is continued, never begun anew.
        say: prints a line.
        every: optimizer steps between lines on the terminal.
    """

    def __init__(self, folder: Path, steps: int, say: Callable[[str], None], every: int = 1) -> None:
        self._folder = folder
        self._file = (folder / METRICS).open("ab")
        if self._file.tell() and not _ends_whole(folder / METRICS):
            self._file.write(b"\n")  # a killed run may have left half a line
        self._steps, self._say, self._every = steps, say, max(1, every)
        self._bar = _bar(steps)
        self._board = _board(folder)

    def step(self, values: dict[str, Any]) -> None:
        """One optimizer step: everything to the file, the essential to the terminal."""
        self._write(values)
        number = values["step"]
        if self._board is not None:
            for name, value in _numbers(values):
                self._board.add_scalar(name, value, number)
        line = step_line(values, self._steps)
        if self._bar is not None:
            self._bar.step(number, line.partition("  ")[2])
        elif number % self._every == 0 or number in (1, self._steps):
            self._say(line)

    def event(self, kind: str, text: str, **values: Any) -> None:
        """Something that happened between steps."""
        self._write({"event": kind, "text": text, **values})
        (self._say if self._bar is None else self._bar.say)(text)

    def finish(self, text: str, summary: dict[str, Any]) -> None:
        """The end of the run: its summary and its loss curve, beside the metrics."""
        self.event("finished", text)
        steps = list(read_metrics(self._folder))
        peaks = [values["allocated_bytes"] for values in steps if "allocated_bytes" in values]
        document = {"schema": SUMMARY_SCHEMA, **summary, "peak_allocated_bytes": max(peaks, default=None)}
        write_whole(self._folder / SUMMARY, json.dumps(_finite(document), indent=2, ensure_ascii=False) + "\n")
        points = [(values["step"], float(values["loss"])) for values in steps]
        draw_curve(points, self._folder / CURVE, title="Training loss", x_label="step", y_label="loss")

    def last_words(self, text: str) -> None:
        """Said by another thread before it ends the process; a bar would leave the terminal without its cursor."""
        if self._bar is not None:
            self._bar.close()
        self._say(text)

    def warn(self, texts: Iterator[str]) -> None:
        """What looks wrong."""
        for text in texts:
            self.event("warning", f"warning: {text}")

    def __enter__(self) -> Record:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._board is not None:
            self._board.close()
        self._file.close()

    def _write(self, values: dict[str, Any]) -> None:
        self._file.write((json.dumps(_finite(values), ensure_ascii=False) + "\n").encode())
        self._file.flush()


class Silent(Record):
    """What the processes beside the first record: nothing."""

    def __init__(self) -> None:
        pass

    def step(self, values: dict[str, Any]) -> None:
        """Nothing."""

    def event(self, kind: str, text: str, **values: Any) -> None:
        """Nothing."""

    def finish(self, text: str, summary: dict[str, Any]) -> None:
        """Nothing."""

    def last_words(self, text: str) -> None:
        """Nothing."""

    def __exit__(self, *_: object) -> None:
        pass


def step_line(values: dict[str, Any], steps: int) -> str:
    """One step for a reader."""
    norms = values["grad_norm"]
    parts = " ".join(f"{part} {norm:.3g}" for part, norm in norms.items() if part != "total")
    memory = f"  {values['allocated_bytes'] / 2**30:.2f} GiB" if values.get("allocated_bytes") else ""
    left = timedelta(seconds=round(values["seconds_left"]))
    return (
        f"step {values['step']}/{steps}  loss {values['loss']:.4f}  norm {norms['total']:.3g} ({parts})  "
        f"lr {values['learning_rate']:.2e}  {values['images_per_second']:.1f} images/s{memory}  left {left}"
    )


def read_metrics(folder: Path) -> Iterator[dict[str, Any]]:
    """The steps of a run in order; where a step was taken again after a resume, the last time counts."""
    steps: dict[int, dict[str, Any]] = {}
    with (folder / METRICS).open(encoding="utf-8", errors="replace") as file:
        for line in file:
            with contextlib.suppress(ValueError, RecursionError):
                values = json.loads(line)
                if isinstance(values, dict) and _is_step(values):
                    steps[values["step"]] = values
    yield from (steps[number] for number in sorted(steps))


def _is_step(values: dict[str, Any]) -> bool:
    """Whether a line is one of a step, with a loss that is a number or the name of one that is not finite."""
    if type(values.get("step")) is not int or "loss" not in values:
        return False
    try:
        float(values["loss"])
    except (ValueError, TypeError, OverflowError):
        return False
    return True


def _ends_whole(file: Path) -> bool:
    with file.open("rb") as opened:
        opened.seek(-1, 2)
        return opened.read(1) == b"\n"


def _finite(value: Any) -> Any:
    """JSON knows no NaN; it is written as its name."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _numbers(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "step":
            yield prefix + name, float(value)


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / BOARD))


class Bar:
    """A progress bar under the lines of a run."""

    def __init__(self, steps: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
        console = Console(file=sys.__stdout__)
        self._progress = Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False)
        self._task = self._progress.add_task("", total=steps)
        self._progress.start()

    def step(self, number: int, text: str) -> None:
        """Show a step in place of the one before."""
        self._progress.update(self._task, completed=number, description=text)

    def say(self, line: str) -> None:
        """Print a line that stays, above the bar."""
        self._progress.console.print(line, markup=False, highlight=False)

    def close(self) -> None:
        """Leave the last step on the terminal."""
        self._progress.stop()


def _bar(steps: int) -> Bar | None:
    """A bar where stdout is a terminal; libraries may have it redirected meanwhile."""
    return Bar(steps) if sys.__stdout__ is not None and sys.__stdout__.isatty() else None
