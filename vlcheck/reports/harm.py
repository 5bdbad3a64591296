"""What faults were measured to cost, and the rules that find them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from vlcheck.finding import Rule

NOT_SHOWN = "not shown at this scale"


@cache
def measured() -> dict[str, Any]:
    """The table `harm.json`, which the suite's harm experiments wrote: date, card, parameters, effects by fault."""
    return read_table(files("vlcheck.reports") / "harm.json")


def read_table(file: Traversable) -> dict[str, Any]:
    """Such a table from a file."""
    table: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return table


def effects_of(code: str) -> list[dict[str, Any]]:
    """The effects of the faults that a rule finds; none where none was measured."""
    return [effect for effect in measured()["faults"] if code in effect["rules"]]


def harm_of(code: str) -> str:
    """What each fault that this rule finds cost, a sentence each; empty where none was measured."""
    return "\n".join(_sentence(effect, measured()) for effect in effects_of(code))


def render_harm(table: Mapping[str, Any], rules: Sequence[Rule]) -> str:
    """Every fault with its effect, the rules that find it and their severities, those that cost most first."""
    severities = {rule.code: severities_of(rule) for rule in rules}
    rows = [("fault", "accuracy", "difference in points (95 %)", "seeds", "rule", "verdict")]
    for effect in table["faults"]:
        low, high = effect["interval"]
        found = ", ".join(f"{code} {severities[code]}" for code in effect["rules"]) or "none"
        points = f"{100 * effect['difference']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
        rows.append((effect["name"], f"{effect['accuracy']:.1%}", points, str(effect["seeds"]), found,
                     "harm" if effect["shown"] else NOT_SHOWN))  # fmt: skip
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(size) for cell, size in zip(row, wide, strict=True)).rstrip() for row in rows]
    size = f"{table['parameters'] / 1e6:.1f} M parameters"
    told = f"{table['date']}, {table['card']}, a stand-in of {size}; docs/harm.md tells how it was measured"
    return "\n".join([*lines, "", told, ""])


def severities_of(rule: Rule) -> str:
    """A rule's severity, and those that it declares for some of its findings: `note or warning`."""
    return " or ".join(map(str, sorted({rule.severity, *(weight.severity for weight in rule.weighs)})))


def _sentence(effect: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    low, high = effect["interval"]
    seeds = "1 seed" if effect["seeds"] == 1 else f"{effect['seeds']} seeds"
    verdict = "" if effect["shown"] else f"{NOT_SHOWN.capitalize()}: "
    return (
        f"{verdict}{effect['says']}: {effect['accuracy']:.1%} of {effect['pictures']} pictures named, "
        f"{effect['sound']:.1%} without it; {100 * effect['difference']:+.1f} points "
        f"({100 * low:+.1f} to {100 * high:+.1f}, {seeds}; {table['date']}, {table['card']}, "
        f"on a stand-in of {table['parameters'] / 1e6:.1f} M parameters)"
    )
