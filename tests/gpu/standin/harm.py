"""Some more runs of the harm sweep: kept in fixtures/harm, and told in docs/harm.md and to `vlcheck explain`.

python -m tests.gpu.standin.harm [--seconds 480] [--workers 10]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from argparse import Namespace
from pathlib import Path

import torch

from tests.gpu.standin import sweep, tell
from tests.gpu.standin.faults import SEEDS
from tests.gpu.standin.keep import keep

BASE = sweep.FIXTURES / "standin"


def go_on(folder: Path, seconds: float, workers: int) -> int:
    """Run what the time allows of what is left, and keep it.

    Returns:
        How many runs are left.
    """
    given = Namespace(out=folder, base=BASE, work=folder / "work", seconds=seconds, workers=workers, miniature=False)
    card = torch.cuda.get_device_name().split()[1].lower()
    if sweep.left(sweep.digest(BASE), SEEDS):
        try:
            sweep.sweep(given)
        finally:
            keep(folder / "runs.jsonl", sweep.FIXTURES / "harm" / f"{time.strftime('%Y-%m-%d')}-{card}.jsonl", {})
    return len(sweep.left(sweep.digest(BASE), SEEDS))


def main() -> None:
    """As the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=480)
    parser.add_argument("--workers", type=int, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        missing = go_on(Path(folder), given.seconds, given.workers)
    tell.main()
    print(f"{missing} runs are left" + "; the same command goes on" * (missing > 0))


if __name__ == "__main__":
    main()
