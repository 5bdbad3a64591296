"""Build the stand-in's base anew, both stages; the fixture was built by this command on a card.

    python -m tests.gpu.standin.rebuild OUT [--first BASE] [--seconds 200 130]

OUT/base holds the base, OUT/second.jsonl and OUT/first.jsonl how its stages went.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

MODULE = "tests.gpu.standin.pretrain"


def main() -> None:
    """One stage behind the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--first", type=Path, help="base of the first stage, where it is kept")
    parser.add_argument("--seconds", type=float, nargs=2, default=(200, 130))
    parser.add_argument("--work", type=Path, default=Path("/tmp/standin"))
    parser.add_argument("--cpu", action="store_true")
    given = parser.parse_args()
    device = ["--cpu", "--batch", "4"] if given.cpu else []
    first = given.first
    if first is None:
        stage("first", given.work / "first", given.out, "--seconds", given.seconds[0], *device)
        first = given.work / "first" / "base"
    second = given.work / "second"
    stage("second", second, given.out, "--seconds", given.seconds[1], "--after", first, "--rate", 5e-4, *device)
    subprocess.run(["cp", "-r", second / "base", given.out], check=True)


def stage(name: str, work: Path, out: Path, *arguments: object) -> None:
    """Pre-train, and keep what it has told."""
    out.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", MODULE, work, *map(str, arguments)], check=True)
    subprocess.run(["cp", work / "pretrain.jsonl", out / f"{name}.jsonl"], check=True)


if __name__ == "__main__":
    main()
