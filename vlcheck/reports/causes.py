"""Which finding explains which: each root cause with what follows from it."""

from __future__ import annotations

from collections.abc import Sequence

from vlcheck.finding import Outcome


def by_cause(found: Sequence[Outcome]) -> list[tuple[Outcome, list[Outcome]]]:
    """Each root cause with its consequences, errors first.

    A consequence of a consequence stands under the first cause. Rules that explain each other in a
    circle have no first cause: each of them stands for itself, so that nothing found goes missing.
    """
    by_code = {o.rule.code: o for o in found}
    homes = {o.rule.code: _first_cause(o, by_code) for o in found}
    groups = [
        (root, [o for o in found if o is not root and homes[o.rule.code] == root.rule.code])
        for root in found
        if homes[root.rule.code] == root.rule.code
    ]
    return sorted(groups, key=lambda group: -max(o.severity for o in (group[0], *group[1])))


def _first_cause(outcome: Outcome, by_code: dict[str, Outcome]) -> str:
    seen = [outcome.rule.code]
    for code in seen:
        causes = [c for c in by_code[code].explained_by if c in by_code and c != code]
        if not causes:
            return code
        seen.extend(c for c in causes if c not in seen)
    return outcome.rule.code
