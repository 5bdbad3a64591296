"""The step time of an earlier run, from the metrics that it left."""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path

from vlcheck.spec import ConfigError, Location, Problem

MOST_BYTES = 512 * 2**20


def read_step_seconds(path: str | os.PathLike[str]) -> float:
    """Seconds of an optimizer step, waiting for its rows included: the median of all steps but the first.

    Args:
        path: `metrics.jsonl` of `vlcheck train`.

    Raises:
        ConfigError: if the file cannot be read or holds no steps.
    """
    file = os.fsdecode(path)
    allowed = "allowed: metrics.jsonl of `vlcheck train`, a JSON object a line with `step` and `seconds`"
    try:
        if Path(file).stat().st_size > MOST_BYTES:
            raise ConfigError(Problem(Location(file), f"is larger than {MOST_BYTES >> 20} MiB; {allowed}"))
        lines = Path(file).read_bytes().splitlines()
    except (OSError, ValueError) as refused:
        reason = getattr(refused, "strerror", None) or str(refused)
        raise ConfigError(Problem(Location(file), f"cannot be read: {reason}")) from None
    steps = [seconds for line in lines if (seconds := _seconds(line)) is not None]
    if not steps:
        raise ConfigError(Problem(Location(file), f"holds no steps; {allowed}"))
    return statistics.median(steps[1:] or steps)


def _seconds(line: bytes) -> float | None:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or "event" in values or not isinstance(values.get("step"), int):
        return None
    told = [values.get("seconds"), values.get("wait_seconds", 0.0)]
    if not all(isinstance(each, int | float) and 0 <= each < 1e9 for each in told) or not told[0]:
        return None
    return float(sum(told))
