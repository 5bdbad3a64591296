"""How far work on very many rows is, in one line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Progress = Callable[[str], None]
Thing = TypeVar("Thing")
TELL_SECONDS = 0.2


def counted(things: Iterable[Thing], what: str, progress: Progress, total: int | None = None) -> Iterator[Thing]:
    """Hand things on, and tell now and then how many have passed.

    Args:
        what: is done with them: `Reading rows`.
        total: how many there are, where that is known.
    """
    started, shown = time.monotonic(), 0.0
    for number, thing in enumerate(things, 1):
        yield thing
        if (now := time.monotonic() - started) - shown > TELL_SECONDS:
            shown = now
            progress(step(what, number, total, now))


def step(what: str, done: int, total: int | None, seconds: float) -> str:
    """`Reading rows: 1,200 of 9,000 (400 a second)` and a bar."""
    pace = f"({done / seconds:,.0f} a second)"
    if total is None:
        return f"{what}: {done:,} {pace}"
    filled = 20 * done // max(done, total)
    return f"{what}: {done:,} of {total:,} {pace} {'━' * filled}{'─' * (20 - filled)}"
