"""The summary of a finished run: what was trained, from what, and how it went."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from vlcheck.gpus import show_gib
from vlcheck.spec import RunSpec
from vlcheck.training.checkpoint import verify
from vlcheck.training.course import better, metric_of
from vlcheck.training.identity import Identity, settings_of
from vlcheck.training.ours import CURVE, METRICS, SUMMARY
from vlcheck.training.record import Record, read_evaluations, read_events, read_metrics
from vlcheck.versions import installed


def summary(
    trained: Mapping[str, Any], spec: RunSpec, identity: Identity, processes: int, folder: Path
) -> dict[str, Any]:
    """What run.json holds: what was trained and from what, how it went, and what it took.

    Args:
        trained: adapter, steps, losses, seconds and rows that were left out.
        folder: of the run, whose metrics tell the rest.
    """
    training, price = spec.training, spec.hardware.price_per_hour
    steps, evaluations = list(read_metrics(folder)), list(read_evaluations(folder))
    seconds = math.fsum(values["seconds"] for values in steps if isinstance(values.get("seconds"), float))
    peaks = [values["allocated_bytes"] for values in steps if "allocated_bytes" in values]
    compiled = next((line["layers"] for line in read_events(folder, "compiling")), 0)
    planned = next((line for line in read_events(folder, "memory") if "projected" in line), {})
    best = _best(evaluations, metric_of(training))
    return {
        **trained, "adapter": str(trained["adapter"]), "identity": identity, "settings": settings_of(spec),
        "config": spec.where("model.id").file, "processes": processes, "versions": installed(),
        "trained_seconds": seconds, "cost": None if price is None else seconds / 3600 * price,
        "metric": metric_of(training), "best_evaluation": best,
        "last_evaluation": evaluations[-1] if evaluations else None,
        "published": "the best evaluation's" if training.load_best_model_at_end and best else "the last step's",
        "peak_allocated_bytes": max(peaks, default=None), "projected_bytes": planned.get("projected"),
        "upper_bytes": planned.get("upper"), "compiled_layers": compiled,
    }  # fmt: skip


def closing_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """A finished run for a reader, and the command that comes next."""
    span = timedelta(seconds=round(document["trained_seconds"]))
    first, last = (float(document[name]) for name in ("first_loss", "last_loss"))
    yield f"{document['steps']} steps in {span}; loss {first:.4f} at first, {last:.4f} at last"
    if best := document["best_evaluation"]:
        accuracy = f", accuracy {float(best['eval_accuracy']):.1%}" if "eval_accuracy" in best else ""
        told = f"best evaluation: step {best['step']}, loss {float(best['eval_loss']):.4f}{accuracy}"
        yield f"{told}; the adapter is {document['published']}"
    if lost := len(document["unreadable"]):
        yield f"{lost:,} rows were left out; they are listed in {METRICS}"
    if peak := document["peak_allocated_bytes"]:
        plan = document["projected_bytes"]
        beside = f", {show_gib(plan)} planned, at most {show_gib(document['upper_bytes'])}" if plan else ""
        yield f"peak {show_gib(peak)} allocated{beside}"
    if document["cost"] is not None:
        yield f"cost {document['cost']:.2f}, by hardware.price_per_hour"
    yield f"next: vlcheck evaluate {document['config']} --adapter {document['adapter']}"


def _best(evaluations: Sequence[dict[str, Any]], metric: str) -> dict[str, Any] | None:
    """The first of the best; of values that are numbers."""
    name = "eval_accuracy" if metric == "accuracy" else "eval_loss"
    best, found = math.nan, None
    for each in evaluations:
        value = float(each.get(name, math.nan))
        if better(metric, value, best):
            best, found = value, each
    return found


def recorded(folder: Path) -> bool:
    """Whether a finished run's summary and curve are there, or can no longer be made."""
    return all((folder / name).exists() for name in (SUMMARY, CURVE)) or not (folder / METRICS).exists()


def make_up(adapter: Path, spec: RunSpec, identity: Identity, processes: int, say: Callable[[str], None]) -> None:
    """Write the summary and the curve of a run that died between its adapter and these, from its metrics."""
    folder, metrics = adapter.parent, list(read_metrics(adapter.parent))
    steps = metrics[-1]["step"] if metrics else verify(adapter).step
    resumed = ([0] + [line["after"] for line in read_events(folder, "resumed") if type(line.get("after")) is int])[-1]
    rows = {
        line["row"]: str(line.get("text")).partition(f"{line['row']}: ")[2]
        for line in read_events(folder, "unreadable")
        if isinstance(line.get("row"), str)
    }
    own = [values for values in metrics if values["step"] > resumed] or [{}]
    trained = {
        "adapter": adapter, "steps": steps, "resumed_from": resumed,
        "first_loss": own[0].get("loss", math.nan), "last_loss": own[-1].get("loss", math.nan),
        "seconds": sum(values.get("seconds", 0.0) for values in own), "unreadable": sorted(rows.items()),
    }  # fmt: skip
    with Record(folder, steps, say, spec, identity) as record:
        document = summary(trained, spec, identity, processes, folder)
        record.finish(f"{adapter}: the adapter after {steps} steps", document)
