"""A regex from a stranger's file, matched in a process of its own that ends after some seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable

SECONDS = 5.0
"""A regex that is meant for paths takes milliseconds for all of a model's."""

MATCH = """
import json, re, sys
pattern, names = json.load(sys.stdin)
try:
    print(json.dumps([name for name in names if re.fullmatch(pattern, name)]))
except (re.error, RecursionError, OverflowError):
    print("[]")
"""


def full_matches(pattern: str, names: Iterable[str], *, seconds: float | None = None) -> frozenset[str] | None:
    """The names that a regex matches from end to end; None where that takes longer than it may.

    A pattern such as `(a+)+b` takes for ever on a name that it does not match, and `re` cannot be stopped.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", MATCH],
            input=json.dumps([pattern, list(names)]),
            capture_output=True,
            text=True,
            timeout=SECONDS if seconds is None else seconds,
            check=True,
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        return None
    return frozenset(json.loads(done.stdout))
