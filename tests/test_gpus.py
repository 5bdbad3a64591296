"""How bytes are printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import vlcheck
from vlcheck.gpus import show_gib

FORMATTED = re.compile(r"(2\*\*30|GIB):[^}]+\} ?GiB")


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0.0 GiB"), (2**20, "0.00098 GiB"), (3 * 2**28, "0.75 GiB"), (2**30, "1.0 GiB"),
        (int(50.66 * 2**30), "50.7 GiB"), (1200 * 2**30, "1,200.0 GiB"), (-(2**29), "-0.5 GiB"),
        (int(-2.26 * 2**30), "-2.3 GiB"),
    ],
)  # fmt: skip
def test_one_decimal_of_a_gib(size, shown):
    """One decimal, and two digits of less than one GiB, so that nothing that is there is printed as 0.0."""
    assert show_gib(size) == shown


def test_bytes_are_formatted_in_one_place():
    """No message divides by a GiB by itself; a limit that is a whole number of them has no decimals."""
    root = Path(vlcheck.__file__).parent
    found = {str(file.relative_to(root)) for file in root.rglob("*.py") if FORMATTED.search(file.read_text("utf-8"))}
    assert found <= {"processing/time_limit.py", "memory/measure.py"}
