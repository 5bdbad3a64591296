"""`vlcheck rules` and `vlcheck explain`: what there is to find."""

from __future__ import annotations

from typing import Annotated

import typer

from vlcheck.cli.options import DocumentFormat
from vlcheck.cli.streams import fail, guarded, say


@guarded
def rules(
    form: Annotated[DocumentFormat, typer.Option("--format", help="Format of the list.")] = DocumentFormat.TEXT,
) -> None:
    """List the rules: code, name, severity, title."""
    from vlcheck.reports.rulebook import list_rules, list_rules_json
    from vlcheck.rules import every_rule

    if form is DocumentFormat.JSON:
        say(list_rules_json(every_rule()), utf8=True)
    else:
        say(list_rules(every_rule()))


@guarded
def explain(
    code: Annotated[str, typer.Argument(metavar="CODE", help="Code or name of a rule.", show_default=False)],
) -> None:
    """Explain a rule: the mechanism, the remedy, the source."""
    from vlcheck.reports.rulebook import explain_rule
    from vlcheck.rules import every_rule, find

    try:
        rule = find(code)
    except ValueError as unknown:
        fail(str(unknown))
    say(explain_rule(rule, every_rule()))
