"""Speed and memory of the data set scan, beside a plain full decode of the same images.

usage: python -m tests.benchmarks.scan_speed [FOLDER] [REPEATS]

FOLDER holds images; without one, the pet photos of ../shared/data or, where they are not, 500 generated
photos of their size. Prints JSON lines: images a second of the scan and of one thread that opens, decodes
and converts, from the same rounds in turn; then what a row costs in memory, from two scans of which one
has 20,000 rows more.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from tests.photos import SHARED, write_json_lines, write_photo
from vlcheck.data.scan import WORKERS, scan_data
from vlcheck.spec import Data

MORE_ROWS = 20_000


def main() -> None:
    """Measure speed, then memory."""
    repeats = next((int(argument) for argument in sys.argv[1:] if argument.isdigit()), 5)
    with tempfile.TemporaryDirectory() as scratch:
        given = next((Path(argument) for argument in sys.argv[1:] if not argument.isdigit()), None)
        print(json.dumps(speed(images(given, Path(scratch)), Path(scratch), repeats)), flush=True)
        print(json.dumps(memory(Path(scratch))), flush=True)


def images(given: Path | None, scratch: Path) -> list[Path]:
    """The images to scan."""
    folder = given or SHARED / "pets" / "images"
    if folder.is_dir():
        return [path.absolute() for path in sorted(folder.glob("*.jpg"))]
    return [write_photo(scratch / f"generated/{seed}.jpg", seed, (256, 192)) for seed in range(500)]


def speed(paths: Sequence[Path], scratch: Path, repeats: int) -> dict[str, float | int]:
    """Images a second, scan and plain decode in turn."""
    file = write_json_lines(scratch / "speed.jsonl", [{"image": str(path), "label": "pet"} for path in paths])
    rounds = [(_timed(lambda: scan_data(Data(path=str(file)))), _timed(lambda: decode(paths))) for _ in range(repeats)]
    scan, plain = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
    return {
        "images": len(paths),
        "threads": WORKERS,
        "scan_images_per_second": round(len(paths) / scan),
        "plain_decode_images_per_second": round(len(paths) / plain),
        "scan_seconds_over_plain": round(scan / plain, 2),
    }


def decode(paths: Sequence[Path]) -> None:
    """What any full check must do at the least: open, decode, convert."""
    for path in paths:
        Image.open(path).convert("RGB")


def memory(scratch: Path) -> dict[str, float | int]:
    """Bytes that one more row costs, its name of 17 characters included."""
    write_photo(scratch / "1.jpg", 1, (32, 32))
    few, many = (_kept(scratch, rows) for rows in (1_000, 1_000 + MORE_ROWS))
    return {"more_rows": MORE_ROWS, "bytes_a_row": round((many - few) / MORE_ROWS, 1)}


def _kept(scratch: Path, rows: int) -> int:
    file = write_json_lines(scratch / "memory.jsonl", [{"image": "1.jpg", "label": "pet"}] * rows)
    tracemalloc.start()
    scan = scan_data(Data(path=str(file)))
    assert len(scan.pictures) == rows
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return kept


def _timed(work: object) -> float:
    start = time.perf_counter()
    assert callable(work)
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
