"""The summary of a finished run: what was trained, from what, and how it went."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vlcheck.spec import RunSpec
from vlcheck.training.checkpoint import verify
from vlcheck.training.identity import Identity, settings_of
from vlcheck.training.ours import CURVE, METRICS, SUMMARY
from vlcheck.training.record import Record, read_metrics
from vlcheck.versions import installed


def summary(trained: Mapping[str, Any], spec: RunSpec, identity: Identity, processes: int) -> dict[str, Any]:
    """What run.json holds, beside the memory that was measured.

    Args:
        trained: adapter, steps, losses, seconds and rows that were left out.
    """
    return {
        **trained, "adapter": str(trained["adapter"]), "identity": identity, "settings": settings_of(spec),
        "processes": processes, "versions": installed(),
    }  # fmt: skip


def recorded(folder: Path) -> bool:
    """Whether a finished run's summary and curve are there, or can no longer be made."""
    return all((folder / name).exists() for name in (SUMMARY, CURVE)) or not (folder / METRICS).exists()


def make_up(adapter: Path, spec: RunSpec, identity: Identity, processes: int, say: Callable[[str], None]) -> None:
    """Write the summary and the curve of a run that died between its adapter and these, from its metrics."""
    folder, steps = adapter.parent, verify(adapter).step
    metrics = list(read_metrics(folder))
    rows = {}
    resumed = 0
    for line in (folder / METRICS).read_text("utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError, RecursionError, KeyError, TypeError):
            event = json.loads(line)
            if event["event"] == "resumed":
                resumed = event["after"]
            elif event["event"] == "unreadable":
                rows[event["row"]] = event["text"].partition(f"{event['row']}: ")[2]
    own = [values for values in metrics if values["step"] > resumed] or [{}]
    trained = {
        "adapter": adapter, "steps": steps, "resumed_from": resumed,
        "first_loss": own[0].get("loss", math.nan), "last_loss": own[-1].get("loss", math.nan),
        "seconds": sum(values.get("seconds", 0.0) for values in own), "unreadable": sorted(rows.items()),
    }  # fmt: skip
    with Record(folder, steps, say, spec, identity) as record:
        record.finish(f"{adapter}: the adapter after {steps} steps", summary(trained, spec, identity, processes))
