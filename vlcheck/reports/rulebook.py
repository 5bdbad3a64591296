"""Rules as text and JSON, without a run: what `vlcheck rules` and `vlcheck explain` show."""

from __future__ import annotations

import json
from collections.abc import Sequence

from vlcheck.finding import Rule, Severity
from vlcheck.reports.harm import effects_of, harm_of

RESTS = "The severity rests on the source above."
UNRUN = "Not among the faults whose harm was measured."


def list_rules(rules: Sequence[Rule]) -> str:
    """One line a rule: code, name, severity, what is wrong when it speaks."""
    longest = max((len(rule.name) for rule in rules), default=0)
    return "".join(f"{r.code}  {r.name:<{longest}}  {r.severity!s:<7}  {r.title}\n" for r in rules)


def list_rules_json(rules: Sequence[Rule]) -> str:
    """The same as a JSON array, with the codes that each rule explains."""
    listed = [
        {"code": r.code, "name": r.name, "severity": str(r.severity), "title": r.title, "explains": list(r.explains)}
        for r in rules
    ]
    return json.dumps(listed, indent=2, ensure_ascii=False) + "\n"


def explain_rule(rule: Rule, rules: Sequence[Rule]) -> str:
    """A rule's docstring, the rules that it explains or is explained by, and what its fault was measured to cost."""
    paragraphs = [f"{rule.code} {rule.name} ({rule.severity})", rule.doc]
    if rule.weighs:
        others = [f"{weight.severity} where {weight.when}" for weight in rule.weighs]
        paragraphs.append(f"Severity: {rule.severity}; {'; '.join(others)}.")
    consequences = [_named(r) for r in rules if r.code in rule.explains]
    causes = [_named(r) for r in rules if rule.code in r.explains]
    if consequences:
        paragraphs.append(f"Explains: {', '.join(consequences)}")
    if causes:
        paragraphs.append(f"Explained by: {', '.join(causes)}")
    if harm := harm_of(rule.code):
        paragraphs.append(f"Measured: {harm}")
    if rule.severity is Severity.ERROR and not any(effect["shown"] for effect in effects_of(rule.code)):
        paragraphs.append(RESTS if harm else f"{UNRUN} {RESTS}")
    return "\n\n".join(paragraphs) + "\n"


def _named(rule: Rule) -> str:
    return f"{rule.code} {rule.name}"
