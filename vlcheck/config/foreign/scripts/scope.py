"""What is known at a place of a script: names, what surrounds them, and what has been called so far."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vlcheck.config.foreign.scripts.source import Source
from vlcheck.config.foreign.scripts.values import (
    Entries,
    Items,
    Made,
    Own,
    Part,
    Plain,
    Scalar,
    Unknown,
    Value,
    line_of,
    saying,
    shown,
)
from vlcheck.spec import Location

MOST_STEPS = 60_000
"""Expressions and statements that are looked at: a script of a thousand lines has about ten thousand."""
DEEPEST = 5
"""Calls of the script's own functions inside each other that are followed: `main`, what it calls, and what that calls.
"""


@dataclass(eq=False)
class Script:
    """A script while it is read."""

    source: Source
    run: Callable[[Sequence[ast.stmt], Scope], str]
    """Follows statements; says how they end: `return`, `raise` or nothing."""
    calls: list[Made] = field(default_factory=list)
    """In the order in which a run would reach them."""
    loops: list[tuple[str, Value]] = field(default_factory=list)
    """Names that loops set, and what each loop goes through."""
    stars: list[str] = field(default_factory=list)
    """Modules of which everything is imported."""
    under: list[str] = field(default_factory=list)
    """What the conditions around this place were taken to be."""
    unsure: int = 0
    """Conditions around this place that only a run decides."""
    active: list[ast.AST] = field(default_factory=list)
    entered: set[ast.AST] = field(default_factory=set)
    steps: int = 0
    environment: dict[Scalar, Value] = field(default_factory=dict)
    """Variables of the environment that the script sets itself."""

    def set_variable(self, name: Scalar, value: Value) -> None:
        """Set a variable of the environment; where only a run decides whether it is set, it is not known."""
        text = f"os.environ[{name!r}]"
        self.environment[name] = Unknown(where=value.where, text=text) if self.unsure else saying(value, *self.under)

    def place(self, node: ast.AST) -> Location:
        """Where a node stands."""
        return self.source.place(node)

    def unknown(self, node: ast.AST, text: str = "") -> Unknown:
        """What only a run would tell, at a node."""
        return Unknown(where=self.place(node), text=text or written(node))

    def spent(self) -> bool:
        """Count a step; true once there were too many."""
        self.steps += 1
        return self.steps > MOST_STEPS


@dataclass(eq=False)
class Scope:
    """The names of the module, of a function's call or of a class."""

    script: Script
    names: dict[str, Value] = field(default_factory=dict)
    outer: Scope | None = None
    returned: list[Value] = field(default_factory=list)
    nodes: dict[str, ast.expr] = field(default_factory=dict)
    """What each name was assigned last, as it is written."""

    def find(self, name: str) -> Value | None:
        """What a name stands for here; None where nothing assigns it."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        return None

    def written(self, name: str) -> ast.expr | None:
        """What a name was assigned, as it is written; None where it was bound in another way."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.nodes.get(name)
            scope = scope.outer
        return None

    def keep(self, name: str, value: Value) -> None:
        """Let a name stand for a value, under the conditions of this place."""
        self.names[name] = saying(value, *self.script.under)


def written(node: ast.AST, limit: int = 60) -> str:
    """A node as its script has it, on one short line."""
    try:
        text = " ".join(ast.unparse(node).split())
    except (RecursionError, ValueError, AttributeError):
        text = "..."
    return text if len(text) <= limit else text[: limit - 1] + "…"


def choose(first: Value, second: Value, what: str, where: Location) -> Value:
    """The first of two values between which only a run decides; it says which the other is."""
    if first is second or (isinstance(first, Plain) and isinstance(second, Plain) and first.value == second.value):
        return first
    if isinstance(first, Own) and isinstance(second, Own):
        return first
    known = not isinstance(first, Unknown | Part) or not isinstance(second, Plain | Items | Entries)
    judged = "the first" if known else "the second, since the first is not known,"
    said = f"{line_of(where)}: {what} is {shown(first)} or {shown(second)}, as a run decides; {judged} was judged"
    return saying(first if known else second, said)


def merged(scope: Scope, before: dict[str, Value], first: dict[str, Value], second: dict[str, Value],
           where: Location) -> None:  # fmt: skip
    """Set each name to what two branches make of it."""
    scope.names = dict(before)
    for name in {**first, **second}:
        one, other = first.get(name), second.get(name)
        if one is None or other is None:
            scope.names[name] = one or other or before[name]
        elif one is other:
            scope.names[name] = one
        else:
            pair = (other, one) if one is before.get(name) else (one, other)  # what a branch sets comes first
            scope.names[name] = choose(*pair, f"`{name}`", where)
