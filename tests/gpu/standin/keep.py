"""Keep the runs of a sweep in fixtures/harm: each line says from which base it was tuned, and when.

python -m tests.gpu.standin.keep RUNS.jsonl BASE FILE [--date 2026-11-27]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tests.gpu.standin.sweep import lines


def keep(runs: Path, kept: Path, own: dict[str, Any]) -> None:
    """Append the lines of a file that another lacks; `own` is said of those that do not say it themselves."""
    kept.parent.mkdir(exist_ok=True)
    already = lines(kept)
    with kept.open("a", encoding="utf-8") as file:
        for line in ({**own, **line} for line in lines(runs)):
            if line not in already:
                file.write(json.dumps(line) + "\n")


def main() -> None:
    """As the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("base", type=Path, help="the base's base.json")
    parser.add_argument("file", type=Path)
    parser.add_argument("--date", help="of runs that do not say")
    given = parser.parse_args()
    base = json.loads(given.base.read_text("utf-8"))["sha256"]
    keep(given.runs, given.file, {"base": base, "date": given.date})


if __name__ == "__main__":
    main()
