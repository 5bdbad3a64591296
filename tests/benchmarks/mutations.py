"""Draw single-token edits of the label code with a seed, list them, and see which tests catch them.

    python -m tests.benchmarks.mutations [--seed 13] [--count 30] [--list]

Each edit is made in a copy of the checkout. An edit that no test catches is listed as alive.
"""

from __future__ import annotations

import argparse
import io
import random
import shutil
import subprocess
import sys
import tempfile
import tokenize
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LAWS, ROWS, TABLE = (
    "tests/processing/test_label_edits.py",
    "tests/collators/test_rows.py",
    "tests/collators/test_table.py",
)
GUARDS: dict[str, tuple[str, ...]] = {
    "vlcheck/processing/labels.py": (LAWS,),
    "vlcheck/collators/rows.py": (ROWS, TABLE),
    "vlcheck/collators/judge.py": (ROWS, TABLE),
    "vlcheck/rules/labels.py": (ROWS, TABLE),
    "vlcheck/rules/spans.py": (ROWS, TABLE),
    "vlcheck/rules/wording.py": (ROWS, TABLE),
}
"""Files that are edited, and the tests that guard each."""

EDITS = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "+": "-", "-": "+", "and": "or", "or": "and",
    "True": "False", "False": "True", "0": "1", "1": "2", "2": "1", "100": "101", "any": "all", "all": "any",
    "max": "min", "min": "max", "&": "|", "|": "&",
}  # fmt: skip
"""Tokens, and what each becomes."""


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


def caught(edit: Edit, copy: Path) -> bool:
    """Whether a guard fails once the edit is made."""
    path = copy / edit.file
    before = path.read_text("utf-8")
    path.write_text(edit.made(before), "utf-8")
    command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-p", "no:cacheprovider", *GUARDS[edit.file]]
    try:
        return (
            subprocess.run(command, cwd=copy, env=_environment(copy), capture_output=True, check=False).returncode != 0
        )
    finally:
        path.write_text(before, "utf-8")


def _environment(copy: Path) -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(copy), "HF_HUB_OFFLINE": "1"}


def main() -> None:
    """List the edits, then say of each whether it lives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    drawn = draw(given.seed, given.count)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkout"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", "__pycache__", ".hypothesis"))
        for edit in drawn:
            said = "" if given.list else "caught" if caught(edit, copy) else "ALIVE"
            print(f"{said:7}{edit}", flush=True)


if __name__ == "__main__":
    main()
