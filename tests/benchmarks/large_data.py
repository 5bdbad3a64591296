"""CPU seconds and memory of `vlcheck audit` on very many rows, beyond those of an audit of few.

usage: python -m tests.benchmarks.large_data [ROWS]

Two data sets of 200,000 rows: conversations in a JSONL file, whose words differ from row to row and which share 12
pictures; and a folder of 20 classes, in which each file is a hard link to one of 20 pictures. Pictures have the size of
the pet photos, 256 x 192. Prints a JSON line each: what an audit of 200 rows takes, and what all of them take more.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from tests.photos import write_json_lines, write_photo

ROWS, FEW = 200_000, 200
WORDS = [f"{first}{last}" for first in ("ba", "ke", "mi", "so", "tu") for last in ("ll", "n", "rade", "st", "x", "")]


def main() -> None:
    """Audit both, few rows and all of them."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    with tempfile.TemporaryDirectory() as scratch:
        for name, make in (("jsonl", conversations), ("folder", classes)):
            data = Path(scratch) / name
            data.mkdir()
            make(data, rows)
            (few_seconds, few_bytes), (seconds, peak) = (audited(data, count) for count in (FEW, rows))
            print(json.dumps({
                "data": name, "rows": rows, "cpu_seconds_of_few": round(few_seconds, 1),
                "more_cpu_seconds": round(seconds - few_seconds, 1), "more_mib": round((peak - few_bytes) / 2**20),
            }), flush=True)  # fmt: skip


def conversations(folder: Path, rows: int) -> None:
    """A line a row, of 3 to 40 words."""
    dice = random.Random(0)
    for number in range(12):
        write_photo(folder / f"{number}.jpg", number, (256, 192))
    write_json_lines(
        folder / "train.jsonl",
        [
            {
                "images": [f"{number % 12}.jpg"],
                "messages": [
                    {"role": "user", "content": f"<image>{number}: {' '.join(dice.choices(WORDS, k=20))}?"},
                    {"role": "assistant", "content": " ".join(dice.choices(WORDS, k=dice.randrange(1, 20)))},
                ],
            }
            for number in range(rows)
        ],
    )


def classes(folder: Path, rows: int) -> None:
    """As many names as rows, of 20 files."""
    for label in range(20):
        first = folder / f"class-{label}" / "0.jpg"
        write_photo(first, label, (256, 192))
        for number in range(1, rows // 20):
            os.link(first, first.with_name(f"{number}.jpg"))


def audited(data: Path, rows: int) -> tuple[float, int]:
    """CPU seconds of an audit in a process of its own, and the most bytes it held."""
    text = (files("vlcheck") / "recipes" / "tiny.yaml").read_text("utf-8")
    start, end = text.index("data:"), text.index("training:")
    config = data.parent / "run.yaml"
    config.write_text(
        f"{text[:start]}data:\n  path: {data}\n  train_samples: {rows}\n  instruction: Which?\n  max_soft_tokens: 70\n"
        f"  max_length: 1024\n{text[end:]}"
    )
    command = [sys.executable, "-m", "vlcheck", "audit", str(config), "--offline"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) in (0, 1)
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


if __name__ == "__main__":
    main()
