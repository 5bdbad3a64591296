"""What a run leaves to read: a JSON line a step, lines or a bar on the terminal, a curve."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from vlcheck.data.atomic_write import write_whole
from vlcheck.gpus import show_gib
from vlcheck.spec import RunSpec
from vlcheck.training.charts import draw_curve
from vlcheck.training.checkpoint import taken
from vlcheck.training.identity import Identity, fingerprint, settings_of
from vlcheck.training.ours import CURVE, METRICS, SUMMARY, SUMMARY_SCHEMA
from vlcheck.training.trackers import Trackers, asked

if TYPE_CHECKING:
    from rich.console import Console


DRAW_SECONDS = 30.0
"""How often the curve is drawn while the run goes on, beside every evaluation and the end."""


class Record:
    """Writes down what happens in a run.

    Args:
        folder: of the run; `metrics.jsonl` there is continued, never begun anew.
        steps: of the whole run.
        say: prints a line.
        spec: settings of the run; trackers, pictures and lines are as it says.
        identity: of the run, by which a tracker knows it again.
    """

    def __init__(self, folder: Path, steps: int, say: Callable[[str], None], spec: RunSpec, identity: Identity) -> None:
        self._folder, self._spec = folder, spec
        self._title = spec.training.run_name or folder.resolve().name
        self._file = (folder / METRICS).open("ab")
        if self._file.tell() and not _ends_whole(folder / METRICS):
            self._file.write(b"\n")  # a killed run may have left half a line
            self._file.flush()
        self._losses = {values["step"]: float(values["loss"]) for values in read_metrics(folder)}
        self._judged = {values["step"]: float(values["eval_loss"]) for values in read_evaluations(folder)}
        self._drawn = time.monotonic()
        self._steps, self._say, self._every = steps, say, max(1, int(spec.training.logging_steps))
        self._bar = _bar(steps)
        self._trackers = Trackers(
            asked(spec),
            folder,
            self._title,
            fingerprint(identity)[:16],
            settings_of(spec),
            max(self._losses, default=0),
        )

    def step(self, values: dict[str, Any]) -> None:
        """One optimizer step: everything to the file, the essential to the terminal."""
        self._write(values)
        number = values["step"]
        self._losses[number] = values["loss"]
        self._trackers.log(dict(_numbers(values)), number)
        if self._bar is not None:
            self._bar.step(number, values)
        elif number % self._every == 0 or number in (1, self._steps):
            self._say(step_line(values, self._steps))
        if time.monotonic() - self._drawn > DRAW_SECONDS:
            self._draw()

    def evaluation(self, values: dict[str, Any], *, better: bool) -> None:
        """One evaluation: its numbers, and what the model answered to a few rows."""
        step = values["step"]
        self._judged[step] = values["eval_loss"]
        self._trackers.log({name: values[name] for name in ("eval_loss", "eval_accuracy") if name in values}, step)
        self.event("evaluation", evaluation_line(values, better=better), **values)
        for sample in values["samples"]:
            self._speak(
                f"  {sample['row']}: expected {_short(sample['expected'])}, answered {_short(sample['answered'])}"
            )
        self._draw()

    def event(self, kind: str, text: str, **values: Any) -> None:
        """Something that happened between steps."""
        self._write({"event": kind, "text": text, **values})
        self._speak(text)

    def finish(self, text: str, summary: dict[str, Any]) -> None:
        """The end of the run: its summary and its loss curve, beside the metrics."""
        self.event("finished", text)
        document = {"schema": SUMMARY_SCHEMA, **summary}
        with taken(self._folder / SUMMARY):
            write_whole(self._folder / SUMMARY, json.dumps(_finite(document), indent=2, ensure_ascii=False) + "\n")
        self._draw()

    def _draw(self) -> None:
        losses, judged = (sorted(points.items()) for points in (self._losses, self._judged))
        with contextlib.suppress(OSError):  # a full disk ends no run for want of a picture
            draw_curve(
                losses, self._folder / CURVE, title=f"{self._title}: training loss", x_label="step", y_label="loss",
                marks=judged,
            )  # fmt: skip
        self._drawn = time.monotonic()

    def _speak(self, text: str) -> None:
        (self._say if self._bar is None else self._bar.say)(text)

    def last_words(self, text: str) -> None:
        """Said when nothing follows, below the bar: at the end, or by another thread before it ends the process."""
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
        self._trackers.finish()
        with contextlib.suppress(OSError) if error is not None else taken(self._folder / METRICS):
            self._file.close()

    def _write(self, values: dict[str, Any]) -> None:
        with taken(self._folder / METRICS):
            self._file.write((json.dumps(_finite(values), ensure_ascii=False) + "\n").encode())
            self._file.flush()


class Silent(Record):
    """What the processes beside the first record: nothing."""

    def __init__(self) -> None:
        pass

    def step(self, values: dict[str, Any]) -> None:
        """Nothing."""

    def evaluation(self, values: dict[str, Any], *, better: bool) -> None:
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
    left = timedelta(seconds=round(values["seconds_left"]))
    return (
        f"step {values['step']}/{steps}  loss {values['loss']:.4f}  norm {norms['total']:.3g} ({parts})  "
        f"lr {values['learning_rate']:.2e}  {values['images_per_second']:.1f} images/s{_memory(values)}  left {left}"
    )


def _memory(values: Mapping[str, Any]) -> str:
    """What a step allocated at most, where it ran on a GPU."""
    return f"  {show_gib(values['allocated_bytes'])}" if values.get("allocated_bytes") else ""


def evaluation_line(values: Mapping[str, Any], *, better: bool) -> str:
    """One evaluation for a reader."""
    parts = [f"evaluation behind step {values['step']}: loss {values['eval_loss']:.4f}"]
    if "eval_accuracy" in values:
        parts.append(f"accuracy {values['eval_accuracy']:.1%}")
    rows = f"{values['rows']:,} rows" + (f", {values['left_out']:,} left out" if values["left_out"] else "")
    best = "best up to now" if better else f"best at step {values['best_step']}" if values["best_step"] else "no number"
    return f"{', '.join(parts)}; {rows}, {values['seconds']:.1f} s; {best}"


def read_evaluations(folder: Path) -> Iterator[dict[str, Any]]:
    """The evaluations of a run in order; where one was taken again after a resume, the last time counts."""
    found: dict[int, dict[str, Any]] = {}
    for values in read_events(folder, "evaluation"):
        if _is_step({**values, "loss": values.get("eval_loss")}):
            found[values["step"]] = values
    yield from (found[number] for number in sorted(found))


def read_events(folder: Path, kind: str) -> Iterator[dict[str, Any]]:
    """What happened between the steps of a run, of one kind, in order."""
    return (values for values in _lines(folder) if values.get("event") == kind)


def read_metrics(folder: Path) -> Iterator[dict[str, Any]]:
    """The steps of a run in order; where a step was taken again after a resume, the last time counts."""
    steps = {values["step"]: values for values in _lines(folder) if "event" not in values and _is_step(values)}
    yield from (steps[number] for number in sorted(steps))


def _lines(folder: Path) -> Iterator[dict[str, Any]]:
    """Lines of the metrics that are an object each; others are passed over."""
    with (folder / METRICS).open(encoding="utf-8", errors="replace") as file:
        for line in file:
            with contextlib.suppress(ValueError, RecursionError):
                values = json.loads(line)
                if isinstance(values, dict):
                    yield values


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


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:59]}\N{HORIZONTAL ELLIPSIS}")


class Bar:
    """A progress bar under the lines of a run: count and time left first, so that no width cuts them off."""

    def __init__(self, steps: int, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.table import Column

        rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        columns = (
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("left {task.fields[left]}", markup=False),
            TextColumn("{task.description}", markup=False, table_column=rest),
        )
        console = console or Console(file=sys.__stdout__)
        self._progress = Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False, expand=True)
        self._task = self._progress.add_task("", total=steps, left="-")
        self._progress.start()

    def step(self, number: int, values: Mapping[str, Any]) -> None:
        """Show a step in place of the one before."""
        text = f"loss {values['loss']:.4f}  {values['images_per_second']:.1f} images/s{_memory(values)}"
        left = timedelta(seconds=round(values["seconds_left"]))
        self._progress.update(self._task, completed=number, left=str(left), description=text)

    def say(self, line: str) -> None:
        """Print a line that stays, above the bar."""
        self._progress.console.print(line, markup=False, highlight=False)

    def close(self) -> None:
        """Leave the last step on the terminal."""
        self._progress.stop()


def _bar(steps: int) -> Bar | None:
    """A bar where stdout is a terminal; libraries may have it redirected meanwhile."""
    return Bar(steps) if sys.__stdout__ is not None and sys.__stdout__.isatty() else None
