"""CPU seconds of `vlcheck fit` beyond its imports: `python -m tests.benchmarks.fit_cost CONFIG ...`.

The bar is 10 s on one card and 30 s over all of them.
"""

from __future__ import annotations

import resource
import subprocess
import sys

IMPORTS = (
    "import vlcheck.evidence.collectors, vlcheck.memory.search, vlcheck.reports.memory, peft, bitsandbytes;"
    "from transformers import AutoModelForImageTextToText"
)


def main(configs: list[str]) -> None:
    """Measure each config on an L4 and on all cards."""
    imports = cpu_seconds("-c", IMPORTS)
    for config in configs:
        one, every = (
            cpu_seconds("-m", "vlcheck", "fit", config, "--offline", *cards) - imports
            for cards in (("--gpu", "l4"), ("--gpu", "all"))
        )
        print(f"{config}: one card {one:.1f} s, all cards {every:.1f} s, imports {imports:.1f} s")


def cpu_seconds(*arguments: str) -> float:
    """User and system seconds of a Python process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main(sys.argv[1:])
