"""The collator of a script with what it needs, and nothing else of the script: what runs where its user allows that."""

from __future__ import annotations

import ast
import os
from dataclasses import dataclass, field
from typing import Any

from vlcheck.config.foreign.scripts.scope import Scope, written
from vlcheck.config.foreign.scripts.source import read_source
from vlcheck.config.foreign.scripts.statements import follow_uncalled, read
from vlcheck.config.foreign.scripts.training import find_training, is_processor
from vlcheck.config.foreign.scripts.values import Imported, Made, NotPlain, Own, Value, line_of, plain, root

RESULT, PROCESSOR = "__collator__", "__processor__"
_LOADS = ("from_pretrained", "load_dataset", "load_from_disk", "login", "train")


class Unsliceable(Exception):
    """A collator needs something that only the whole script would make; the message names it."""


def is_in_script(name: str) -> bool:
    """Whether a function is named by the file of a script, and not by a module."""
    return name.rpartition(":")[0].endswith((".py", ".ipynb"))


def load_collator(name: str, processor: Any) -> Any:
    """Run the slice of a script that makes its collator. Only called where the user allowed their code.

    Args:
        name: `script.py:function`.
        processor: stands wherever the script has its own processor or tokenizer.

    Raises:
        Unsliceable: if the collator needs what the script loads, trains or asks for.
        Exception: whatever the user's code raises.
    """
    path = name.rpartition(":")[0]
    namespace: dict[str, Any] = {"__name__": "vlcheck_slice", PROCESSOR: processor}
    exec(compile(slice_of(path), path, "exec"), namespace)
    return namespace[RESULT]


def slice_of(path: str | os.PathLike[str]) -> str:
    """The Python text that makes a script's collator: its imports, constants, functions and classes.

    Raises:
        ConfigError: if the script cannot be read.
        Unsliceable: as `load_collator`.
    """
    script, module = read(read_source(path))
    training = find_training(script)
    if training is None:
        follow_uncalled(script, module)
        training = find_training(script)
    if training is None or training.collator is None:
        raise Unsliceable("the script gives its training no collator")
    collator, made = _Slice(), training.collator
    if isinstance(made, Own) and isinstance(made.node, ast.FunctionDef):
        collator.need(made.name, made, module)
        return collator.text(made.name)
    call = training.loader or training.start
    node = call.nodes.get("collate_fn") or call.nodes.get("data_collator")
    scope = call.scope if isinstance(call.scope, Scope) else module
    if node is None:
        raise Unsliceable(f"the collator on {line_of(made.where)} is not written as an argument")
    collator.expression(node, scope)
    return collator.text(ast.unparse(node))


@dataclass
class _Slice:
    lines: list[str] = field(default_factory=list)
    held: dict[str, Value] = field(default_factory=dict)

    def text(self, result: str) -> str:
        return "\n".join((*self.lines, f"{RESULT} = {result}", ""))

    def expression(self, node: ast.AST, scope: Scope) -> None:
        """Provide the names that an expression or a definition uses and does not bind itself."""
        bound = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and not _loads(inner)}
        bound |= {inner.arg for inner in ast.walk(node) if isinstance(inner, ast.arg)}
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and _loads(inner) and inner.id not in bound:
                value = scope.find(inner.id)
                if value is not None:
                    self.need(inner.id, value, scope)

    def need(self, name: str, value: Value, scope: Scope) -> None:
        """Provide a name as the script has it."""
        if name in self.held:
            if self.held[name] is not value and not isinstance(value, Imported):
                raise Unsliceable(f"the collator uses two things that are called {name}")
            return
        self.held[name] = value
        source = root(value)
        if is_processor(value) or (value is not source and is_processor(source) and name in ("processor", "tokenizer")):
            tokenizer = name.endswith("tokenizer") or (isinstance(value, Made) and "Tokenizer" in value.callee)
            self.lines.append(
                f"{name} = " + (f'getattr({PROCESSOR}, "tokenizer", {PROCESSOR})' if tokenizer else PROCESSOR)
            )
        elif isinstance(value, Imported):
            parent, _, last = value.path.rpartition(".")
            if not value.path.startswith("builtins."):
                self.lines.append(f"from {parent} import {last} as {name}" if parent else f"import {last} as {name}")
        elif isinstance(value, Own):
            held = value.held if isinstance(value.held, Scope) else scope
            self.expression(value.node, held)
            text = ast.unparse(value.node)
            self.lines.append(f"{name} = {text}" if isinstance(value.node, ast.Lambda) else text)
        else:
            self._constant(name, value, scope)

    def _constant(self, name: str, value: Value, scope: Scope) -> None:
        try:
            self.lines.append(f"{name} = {plain(value)!r}")
            return
        except NotPlain:
            node = scope.written(name)
        loads = isinstance(root(value), Made) and not is_processor(root(value)) and _made_elsewhere(root(value))
        if node is None or loads:
            text = written(node) if node is not None else name
            raise Unsliceable(f"the collator needs {name}, which is `{text}` of {line_of(value.where)}")
        self.expression(node, scope)
        self.lines.append(f"{name} = {ast.unparse(node)}")


def _loads(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Load)


def _made_elsewhere(value: Value) -> bool:
    """Whether a call loads or trains something."""
    return isinstance(value, Made) and value.own is None and value.callee.rpartition(".")[2] in _LOADS
