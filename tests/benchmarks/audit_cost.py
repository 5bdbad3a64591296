"""Time and memory of whole commands, each in a process of its own, beside the import floor.

usage: python -m tests.benchmarks.audit_cost [REPEATS]

The floor is `import torch, transformers, peft, bitsandbytes` alone: no audit can be faster. Prints one
JSON line a command: the median of its seconds, of the floor's in the same rounds, the difference, and
the largest resident memory.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
FLOOR = ["-c", "import torch, transformers, peft, bitsandbytes"]
COMMANDS = {
    "audit gemma4-31b-pet": ["-m", "vlcheck", "audit", "vlcheck/recipes/gemma4-31b-pet.yaml"],
    "audit gemma4-e4b-pet": ["-m", "vlcheck", "audit", "vlcheck/recipes/gemma4-e4b-pet.yaml"],
    "--help": ["-m", "vlcheck", "--help"],
    "rules": ["-m", "vlcheck", "rules"],
    "explain VLC103": ["-m", "vlcheck", "explain", "VLC103"],
    "config error": ["-m", "vlcheck", "audit", "pyproject.toml"],
    "schema": ["-m", "vlcheck", "schema"],
}


def main() -> None:
    """Run every command `REPEATS` times, the floor between them."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    for name, command in COMMANDS.items():
        runs = [(cost(FLOOR), cost(command)) for _ in range(repeats)]
        floor = statistics.median(seconds for (seconds, _), _ in runs)
        spent = statistics.median(seconds for _, (seconds, _) in runs)
        print(
            json.dumps(
                {
                    "command": name,
                    "seconds": round(spent, 2),
                    "import_floor_seconds": round(floor, 2),
                    "above_floor_seconds": round(spent - floor, 2),
                    "resident_gib": round(max(peak for _, (_, peak) in runs) / 2**30, 2),
                }
            ),
            flush=True,
        )


def cost(command: list[str]) -> tuple[float, int]:
    """Seconds and largest resident bytes of one process."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    _, _, usage = os.wait4(process.pid, 0)
    return time.perf_counter() - start, usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()
