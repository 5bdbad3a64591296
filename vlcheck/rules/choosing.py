"""Which rules an entry names, as commands, comments and a project's file name them: code, prefix or name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from vlcheck import rules
from vlcheck.finding import Report, Rule, Severity

if TYPE_CHECKING:
    from vlcheck.config.project import ProjectSettings


def choose(
    select: Iterable[str] = (), ignore: Iterable[str] = (), *, saved: bool = False, launched: bool = False
) -> tuple[Rule, ...]:
    """The rules whose code (or a prefix of it, `VLC4`) or name is selected and not ignored.

    Args:
        saved: choose among the rules for saved adapters, not among those for runs.
        launched: choose among the rules for a run's job too.

    Raises:
        ValueError: if an entry matches no rule; the message names it and the nearest rule.
    """
    return _chosen(select, ignore, _of(saved=saved, launched=launched))


def choose_live(select: Iterable[str] = (), ignore: Iterable[str] = (), *, adapted: bool = True) -> tuple[Rule, ...]:
    """The rules that a running job is held to, selected and ignored as by `choose`.

    Args:
        adapted: the model carries adapters.

    Raises:
        ValueError: as `choose`.
    """
    without = rules.NOT_LIVE if adapted else (*rules.NOT_LIVE, *rules.OF_ADAPTERS)
    return _chosen(select, ignore, _live(without))


def _of(*, saved: bool, launched: bool) -> tuple[Rule, ...]:
    return rules.ADAPTER_RULES if saved else (*rules.RULES, *rules.LAUNCH_RULES) if launched else rules.RULES


def _live(without: tuple[str, ...]) -> tuple[Rule, ...]:
    return (*rules.LIVE_RULES, *(rule for rule in rules.RULES if not rule.code.startswith(without)))


def _chosen(select: Iterable[str], ignore: Iterable[str], among: tuple[Rule, ...]) -> tuple[Rule, ...]:
    selected, ignored = _matching(select, among), _matching(ignore, among)
    return tuple(r for r in among if (not list(select) or r in selected) and r not in ignored)


def asked(
    project: ProjectSettings, *, saved: bool = False, launched: bool = False, live: bool = False
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a project selects and ignores of this command's rules; its other entries are other commands'.

    Args:
        saved, launched: as for `choose`.
        live: the rules of `choose_live`.

    Raises:
        ConfigError: if the project names a rule that no command has, its severities included.
    """
    among = _live(rules.NOT_LIVE) if live else _of(saved=saved, launched=launched)
    found = {}
    for key in ("select", "ignore", "severity"):
        entries = tuple(getattr(project, key))
        for entry in entries:
            if not _hits(entry, rules.every_rule()):
                raise project.refuse(key, unknown(entry))
        found[key] = tuple(entry for entry in entries if _hits(entry, among))
    return found["select"], found["ignore"]


def severities(graded: Mapping[str, Severity]) -> dict[str, Severity]:
    """Severity by code, from entries as of `choose`; a code or a name outranks a prefix, and a longer prefix a shorter.

    An entry that matches no rule, which `asked` refuses, changes nothing.
    """
    by_code: dict[str, Severity] = {}
    for entry in sorted(graded, key=lambda entry: len(entry) if entry.upper().startswith("VLC") else 99):
        by_code |= {rule.code: graded[entry] for rule in _hits(entry, rules.every_rule())}
    return by_code


def graded(report: Report, severities: Mapping[str, Severity]) -> Report:
    """The report with other severities of rules, by code, whatever the evidence; what changes is a remark."""
    outcomes = tuple(o.weighing(severities[o.rule.code]) if o.rule.code in severities else o for o in report.outcomes)
    changed = [
        f"{new.rule.code} {new.severity} (not {old.severity})"
        for old, new in zip(report.outcomes, outcomes, strict=True)
        if new.severity is not old.severity
    ]
    remark = (f"severities of this project: {', '.join(changed)}",) if changed else ()
    return replace(report, outcomes=outcomes, remarks=(*report.remarks, *remark))


def find(entry: str) -> Rule:
    """The one rule with this code or name.

    Raises:
        ValueError: if there is none; the message names the nearest rule.
    """
    for rule in rules.every_rule():
        if entry.upper() == rule.code or entry.lower() == rule.name:
            return rule
    raise ValueError(unknown(entry))


def _matching(entries: Iterable[str], among: tuple[Rule, ...]) -> set[Rule]:
    matching: set[Rule] = set()
    for entry in entries:
        hits = _hits(entry, among)
        if not hits and _hits(entry, rules.every_rule()):
            raise ValueError(f"{entry} belongs to `{_door(entry)}`")
        if not hits:
            raise ValueError(unknown(entry))
        matching |= hits
    return matching


def _door(entry: str) -> str:
    """Where the rules of an entry are asked."""
    doors = (
        ("vlcheck audit", rules.RULES),
        ("vlcheck check-adapter", rules.ADAPTER_RULES),
        ("vlcheck preflight", rules.LAUNCH_RULES),
        ("vlcheck.check_run", rules.LIVE_RULES),
    )
    return next(door for door, asked in doors if _hits(entry, asked))


def _hits(entry: str, among: tuple[Rule, ...]) -> set[Rule]:
    prefix = entry.upper() if entry.upper().startswith("VLC") else ""
    return {r for r in among if (prefix and r.code.startswith(prefix)) or entry.lower() == r.name}


def unknown(entry: str) -> str:
    """What is told of an entry that names no rule, and the nearest one."""
    every = rules.every_rule()
    names = [r.code for r in every] + [r.name for r in every]
    near = difflib.get_close_matches(entry, [*names, *map(str.lower, names)], n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"no rule {entry!r}{hint} (`vlcheck rules` lists all {len(every)})"
