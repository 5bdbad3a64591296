"""What the fault that a rule finds was measured to cost."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def measured() -> dict[str, Any]:
    """The table `harm.json`, which the suite's harm experiments wrote: date, card, parameters, effects by code."""
    text = (files("vlcheck.reports") / "harm.json").read_text("utf-8")
    table: dict[str, Any] = json.loads(text)
    return table


def harm_of(code: str) -> str:
    """What each fault that this rule finds cost, a sentence each; empty where none was measured."""
    table = measured()
    return "\n".join(_sentence(effect, table) for effect in table["rules"].get(code, ()))


def _sentence(effect: dict[str, Any], table: dict[str, Any]) -> str:
    low, high = effect["interval"]
    seeds = "1 seed" if effect["seeds"] == 1 else f"{effect['seeds']} seeds"
    verdict = "" if effect["shown"] else "Not shown at this scale: "
    return (
        f"{verdict}{effect['fault']}: {effect['accuracy']:.1%} of {effect['pictures']} pictures named, "
        f"{effect['sound']:.1%} without it; {100 * effect['difference']:+.1f} points "
        f"({100 * low:+.1f} to {100 * high:+.1f}, {seeds}; {table['date']}, {table['card']}, "
        f"on a stand-in of {table['parameters'] / 1e6:.1f} M parameters)"
    )
