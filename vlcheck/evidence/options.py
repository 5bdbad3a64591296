"""What the caller of an audit allows."""

from __future__ import annotations

from dataclasses import dataclass

ROWS = 32
"""Rows of the run's data whose labels are judged, unless the caller asks for more."""


@dataclass(frozen=True)
class Options:
    """What the caller allows."""

    allow_code: bool = False
    """Run the functions that the config names."""
    offline: bool = False
    """Never ask the Hub."""
    stream: bool = False
    """Read a Hub data set over the network where it is not in the cache."""
    rows: int = ROWS
    """Rows of the run's data that are collated and judged."""


ALLOW_NOTHING = Options()
