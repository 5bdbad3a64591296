"""Draw single-token edits of the label code with a seed, list them, and see which tests catch them.

    python -m tests.benchmarks.mutations [--seed 13] [--count 30] [--jobs 2] [--out FILE] [--again] [--list]

Each edit is made in a copy of the checkout, a copy a job, and prints one JSON line as soon as it is judged: the first
test that fails, or that it is alive. With `--out` the lines go to that file too, and what stands there already is not
run again, but with `--again` for the edits that lived.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tokenize
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

ROOT = Path(__file__).parents[2]
LAWS, FINDINGS, ROWS, TABLE = (
    "tests/processing/test_label_edits.py",
    "tests/rules/test_label_findings.py",
    "tests/collators/test_rows.py",
    "tests/collators/test_table.py",
)
GUARDS: dict[str, tuple[str, ...]] = {
    "vlcheck/processing/labels.py": (LAWS,),
    "vlcheck/collators/rows.py": (ROWS, TABLE),
    "vlcheck/collators/judge.py": (ROWS, TABLE),
    "vlcheck/rules/labels.py": (FINDINGS, TABLE),
    "vlcheck/rules/spans.py": (FINDINGS, TABLE),
    "vlcheck/rules/wording.py": (FINDINGS, TABLE),
}
"""Files that are edited, and the tests that guard each."""

EDITS = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "+": "-", "-": "+", "and": "or", "or": "and",
    "True": "False", "False": "True", "0": "1", "1": "2", "2": "1", "100": "101", "any": "all", "all": "any",
    "max": "min", "min": "max", "&": "|", "|": "&",
}  # fmt: skip
"""Tokens, and what each becomes."""

ENDLESS = 1_200
"""Seconds after which an edit counts as caught: it may have made a loop that never ends."""


@dataclass(frozen=True)
class Edit:
    """One token of one file that becomes another."""

    file: str
    line: int
    column: int
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.before} becomes {self.after}"

    def source(self, text: str) -> str:
        """The line that it stands in."""
        return text.splitlines()[self.line - 1].strip()

    def made(self, text: str) -> str:
        """The file's text with the edit in it."""
        lines = text.splitlines(keepends=True)
        line = lines[self.line - 1]
        end = self.column + len(self.before)
        lines[self.line - 1] = line[: self.column] + self.after + line[end:]
        return "".join(lines)


def edits(file: str) -> list[Edit]:
    """Every edit that a file allows; annotations are none, since nothing reads them."""
    text = (ROOT / file).read_text("utf-8")
    found = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        after = EDITS.get(token.string)
        annotated = token.string == "|" and ("None" in token.line or "->" in token.line)
        if after and token.type in (tokenize.OP, tokenize.NAME, tokenize.NUMBER) and not annotated:
            if token.string == "-" and "->" in token.line:
                continue
            found.append(Edit(file, token.start[0], token.start[1], token.string, after))
    return found


def draw(seed: int, count: int) -> list[Edit]:
    """So many edits of all files, the same for the same seed."""
    every = [edit for file in GUARDS for edit in edits(file)]
    return random.Random(seed).sample(every, count)


def judged(edit: Edit, copy: Path) -> dict[str, Any]:
    """The edit with the first test that fails once it is made; one that never ends is caught too.

    Raises:
        RuntimeError: if pytest was stopped from outside, which says nothing of the edit.
    """
    path = copy / edit.file
    before = path.read_text("utf-8")
    path.write_text(edit.made(before), "utf-8")
    every_row = ("-m", "not gpu", "-k", "not in_every_family")  # of the table, half of which is judged by default
    command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-rfE", "-p", "no:cacheprovider", *every_row,
               *GUARDS[edit.file]]  # fmt: skip
    begun = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=copy, env=_environment(copy), capture_output=True, text=True, check=False, timeout=ENDLESS
        )
        if done.returncode < 0:
            raise RuntimeError(f"{edit}: pytest was stopped by signal {-done.returncode}")
        failed = re.search(r"^(?:FAILED|ERROR) (\S.*?)(?: - |$)", done.stdout, re.MULTILINE)
        by = (failed[1] if failed else f"pytest ends with {done.returncode}") if done.returncode else ""
    except subprocess.TimeoutExpired:
        by = f"not done within {ENDLESS} seconds"
    finally:
        path.write_text(before, "utf-8")
    seconds = round(time.monotonic() - begun)
    return {"edit": str(edit), "source": edit.source(before), "alive": not by, "by": by, "seconds": seconds}


def judged_in_parallel(drawn: Iterable[Edit], jobs: int) -> Iterator[dict[str, Any]]:
    """Each edit as it is judged, so many at a time, each of them in a copy that no other uses meanwhile."""
    free: SimpleQueue[Path] = SimpleQueue()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        for number in range(jobs):
            copy = Path(folder) / str(number)
            shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", "__pycache__", ".hypothesis", ".*_cache"))
            free.put(copy)

        def one(edit: Edit) -> dict[str, Any]:
            copy = free.get()
            try:
                return judged(edit, copy)
            finally:
                free.put(copy)

        try:
            for done in as_completed([pool.submit(one, edit) for edit in drawn]):
                yield done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _environment(copy: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(copy), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def _known(out: Path | None) -> dict[tuple[str, str], dict[str, Any]]:
    """What a file of an earlier run holds, by place and source: a line that has changed since is run again."""
    lines = out.read_text("utf-8").splitlines() if out and out.exists() else []
    return {(each["edit"], each["source"]): each for each in map(json.loads, lines)}


def main() -> None:
    """List the edits, then say of each whether it lives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--again", action="store_true", help="run those that lived once more")
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    drawn = draw(given.seed, given.count)
    if given.list:
        print("\n".join(map(str, drawn)))
        return
    known = _known(given.out)
    held = {edit: known.get((str(edit), edit.source((ROOT / edit.file).read_text("utf-8")))) for edit in drawn}
    left = [edit for edit, line in held.items() if line is None or (given.again and line["alive"])]
    lived = sum(line["alive"] for edit, line in held.items() if line and edit not in left)
    for line in judged_in_parallel(left, given.jobs):
        lived += line["alive"]
        print(json.dumps(line), flush=True)
        if given.out:
            with given.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
    print(f"{lived} of {len(drawn)} edits of seed {given.seed} live", flush=True)


if __name__ == "__main__":
    main()
