"""Every rule, in report order. This tuple is the registry: a code is taken once it stands here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from vlcheck.finding import Rule
from vlcheck.rules import adapters, coverage, placement, targets

RULES: tuple[Rule, ...] = (
    placement.wrapper_targeted,
    targets.adapters_refused,
    placement.clip_around,
    placement.clip_replaced,
    placement.merge_differs,
    placement.clip_inactive,
    placement.clip_bounds,
    targets.idle_exclude,
    targets.unmatched_target,
    targets.attention_refused,
    placement.clip_contradiction,
    coverage.language_not_adapted,
    coverage.vision_not_adapted,
    coverage.projector_not_adapted,
    coverage.frozen_part,
    coverage.adapted_against_intent,
    adapters.unreachable_adapter,
    adapters.idle_adapter,
    adapters.router_adapted,
    adapters.tied_weight_saved,
    adapters.vision_tower_4bit,
    coverage.declared_part_missing,
)


def choose(select: Iterable[str] = (), ignore: Iterable[str] = ()) -> tuple[Rule, ...]:
    """The rules whose code (or a prefix of it, `VLC4`) or name is selected and not ignored.

    Raises:
        ValueError: if an entry matches no rule; the message names it and the nearest rule.
    """
    selected, ignored = _matching(select), _matching(ignore)
    return tuple(r for r in RULES if (not list(select) or r in selected) and r not in ignored)


def find(entry: str) -> Rule:
    """The one rule with this code or name.

    Raises:
        ValueError: if there is none; the message names the nearest rule.
    """
    for rule in RULES:
        if entry.upper() == rule.code or entry.lower() == rule.name:
            return rule
    raise ValueError(_unknown(entry))


def _matching(entries: Iterable[str]) -> set[Rule]:
    matching: set[Rule] = set()
    for entry in entries:
        prefix = entry.upper() if entry.upper().startswith("VLC") else ""
        hits = {r for r in RULES if (prefix and r.code.startswith(prefix)) or entry.lower() == r.name}
        if not hits:
            raise ValueError(_unknown(entry))
        matching |= hits
    return matching


def _unknown(entry: str) -> str:
    names = [r.code for r in RULES] + [r.name for r in RULES]
    near = difflib.get_close_matches(entry, [*names, *map(str.lower, names)], n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"no rule {entry!r}{hint} (`vlcheck rules` lists all {len(RULES)})"
