"""Findings of one rule that say the same about several parts, rows or settings: one text with a list."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlcheck.finding import Finding

MOST_NAMES = 4
"""Names that a list shows."""
LEAST_SHARED = 2
"""Words that two messages must share to be the same but for a name."""
FIRST = re.compile(r"; first: .*\Z", re.DOTALL)
"""The tail of a message that names one example, which is another in each finding."""


@dataclass(frozen=True)
class Group:
    """Findings that differ in a name alone; `names` holds those of the second and later ones."""

    findings: tuple[Finding, ...]
    names: tuple[str, ...] = ()

    @property
    def first(self) -> Finding:
        """The finding whose message is shown."""
        return self.findings[0]

    @property
    def likewise(self) -> str:
        """What else the message holds for: `likewise: projector`; empty where there is nothing."""
        if not self.names:
            return ""
        shown, more = self.names[:MOST_NAMES], len(self.names) - MOST_NAMES
        count = f" ({len(self.names)} more)" if more > 0 else ""
        return f"likewise{count}: {'; '.join(shown)}{f'; and {more} others' if more > 0 else ''}"

    @property
    def fixes(self) -> tuple[str, ...]:
        """Remedies, each once."""
        return tuple(dict.fromkeys(finding.fix for finding in self.findings if finding.fix))


def group_findings(findings: Iterable[Finding]) -> tuple[Group, ...]:
    """Put findings of one rule together that agree but for a name, in the order of their first.

    Two agree if they matter alike, if their messages are equal once a name is taken out of each, if what was measured
    is equal but for words that the messages say too, and if neither remedy is a piece of YAML that the other lacks.
    Counts that differ keep findings apart.
    """
    groups: list[Group] = []
    for finding in findings:
        for index, group in enumerate(groups):
            name = _other_name(group.first, finding)
            if name is not None:
                names = (*group.names, *([name] if name else ()))
                groups[index] = Group((*group.findings, finding), names)
                break
        else:
            groups.append(Group((finding,)))
    return tuple(groups)


def shared_measured(group: Group) -> Mapping[str, Any]:
    """What was measured and is the same in every finding of a group."""
    if len(group.findings) == 1:
        return group.first.measured
    return {
        key: value
        for key, value in group.first.measured.items()
        if all(finding.measured[key] == value for finding in group.findings)
    }


def _other_name(one: Finding, other: Finding) -> str | None:
    """What stands in the other's message where the first has its own name; None if they say different things."""
    mine, its = (FIRST.sub("", finding.message) for finding in (one, other))
    if one.severity is not other.severity:
        return None
    if not _same_measured(one, other) or ("\n" in one.fix + other.fix and one.fix != other.fix):
        return None
    if mine == its:
        return "" if one.fix == other.fix else None
    own, name, shared = _differing(mine.split(), its.split())
    if not own or not name or own[-1].endswith(":") or name[-1].endswith(":") or ":" in "".join(own[:-1] + name[:-1]):
        return _other_label(mine, its)
    return None if shared < LEAST_SHARED or _counts(own) or _counts(name) else " ".join(name).rstrip(",;")


def _other_label(mine: str, its: str) -> str | None:
    """The other's label before a colon, where the messages are equal once each has lost its own label everywhere."""
    for own, name in zip(mine.split(": ")[:-1], its.split(": ")[:-1], strict=False):
        if own != name:
            return name if mine.replace(own, "\0") == its.replace(name, "\0") else None
    return None


def _differing(mine: list[str], its: list[str]) -> tuple[list[str], list[str], int]:
    """The run of words in which each differs from the other, and how many words around it are equal."""
    start = _equal(mine, its)
    end = _equal(mine[start:][::-1], its[start:][::-1])
    return mine[start : len(mine) - end], its[start : len(its) - end], start + end


def _equal(one: Sequence[str], other: Sequence[str]) -> int:
    """How many words at the start are the same."""
    pairs = zip(one, other, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _counts(words: Sequence[str]) -> bool:
    """Whether a run of words holds a measurement."""
    return any(re.fullmatch(r"[-+±(]?\d[\d,.]*%?[),;]?", word) for word in words)


def _same_measured(one: Finding, other: Finding) -> bool:
    if one.measured.keys() != other.measured.keys():
        return False
    return all(
        mine == other.measured[key] or key == "first" or (_says(one, mine) and _says(other, other.measured[key]))
        for key, mine in one.measured.items()
    )


def _says(finding: Finding, value: Any) -> bool:
    """Whether a text that was measured stands in the message, and so is not lost with the measurements."""
    return isinstance(value, str) and value in finding.message
