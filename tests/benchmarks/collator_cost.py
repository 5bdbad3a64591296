"""CPU seconds of one `check_collator` on a sound collator of every family, each in a process of its own.

    python -m tests.benchmarks.collator_cost [HUB_ID ...]

Prints one JSON line a family as soon as it is known: its seconds (imports left out), and the report's sum; then the
families above the bar. Other work on the machine inflates the figures.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

from tests.model.families.models import SMALLEST

ONE = "--one"
BAR = 5.0
"""CPU seconds that a check may take."""


def main() -> None:
    """Every family by default, else the models that are named."""
    if sys.argv[1:2] == [ONE]:
        print(json.dumps(cost(sys.argv[2])))
        return
    above = []
    for hub_id in sys.argv[1:] or SMALLEST:
        line = apart(hub_id)
        print(json.dumps(line), flush=True)
        above += [hub_id] if line.get("cpu_seconds", 0.0) > BAR else []
    print(f"above {BAR} seconds: {', '.join(above) or 'none'}")


def apart(hub_id: str) -> dict[str, Any]:
    """The cost in a fresh process, or why there is none."""
    command = [sys.executable, "-m", "tests.benchmarks.collator_cost", ONE, hub_id]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"model": hub_id, "reason": done.stderr.strip().rpartition("\n")[2]}
    line: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
    return line


def cost(hub_id: str) -> dict[str, Any]:
    """One check of a collator that is not known to be ours."""
    from tests.broken import collators
    from vlcheck import check_collator
    from vlcheck.model.catalogue import lookup
    from vlcheck.model.families import family_of
    from vlcheck.processing.fallback import build_fallback

    found = lookup(hub_id)
    assert found is not None
    processor = build_fallback(family_of(found.config), found.config)
    collator = collators.sound(processor)
    check_collator(collator, processor, model=hub_id, select=("VLC222",))  # imports
    begun = time.process_time()
    report = check_collator(collator, processor, model=hub_id)
    return {"model": hub_id, "cpu_seconds": round(time.process_time() - begun, 2), "report": str(report)}


if __name__ == "__main__":
    main()
