"""A job's training script, read and never run: how it resumes, and what it hands to its library."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from vlcheck.config.reading.text import read_text
from vlcheck.launch.job import Job, Placed
from vlcheck.spec import ConfigError, Location

ARGUMENTS = frozenset(("TrainingArguments", "SFTConfig", "Seq2SeqTrainingArguments"))
"""Classes whose keyword arguments are a run's settings."""
FINDERS = frozenset(("get_last_checkpoint",))
"""Functions that give the newest checkpoint of a folder."""


def with_script(job: Job, path: Path) -> Job:
    """A job with what its script says of resuming and of its arguments.

    One that cannot be read, or is no Python, is a remark of the job.
    """
    try:
        tree = parsed(read_text(path))
    except (ConfigError, ValueError) as unread:
        return replace(job, remarks=(*job.remarks, f"{path.name} was not read: {str(unread)[:120]}"))
    file = str(path)
    keywords = tuple(Placed(name, Location(file, line)) for name, line in _settings(tree))
    resumes = next(_resuming(tree, file), None)
    remarks = (*job.remarks, f"{path.name} was read as the script that the job starts")
    return replace(job, keywords=(*job.keywords, *keywords), resumes_any=job.resumes_any or resumes, remarks=remarks)


def parsed(text: str) -> ast.Module:
    """Python source as a tree.

    Raises:
        ValueError: if it is no Python.
    """
    try:
        return ast.parse(text)
    except (SyntaxError, RecursionError, MemoryError) as wrong:
        raise ValueError(f"it is no Python: {wrong}") from None


def _settings(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name_of(node.func) in ARGUMENTS:
            yield from ((word.arg, word.value.lineno) for word in node.keywords if word.arg is not None)


def _resuming(tree: ast.Module, file: str) -> Iterator[Placed[str]]:
    """Places at which the script takes up what lies in a folder, whoever wrote it."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        for word in node.keywords:
            if word.arg == "resume_from_checkpoint" and not _off(word.value):
                yield Placed(
                    f"resume_from_checkpoint={_shown(word.value)}",
                    Location(file, word.value.lineno, word.value.col_offset + 1),
                )
        if name_of(node.func) in FINDERS:
            yield Placed(f"{name_of(node.func)}()", Location(file, node.lineno, node.col_offset + 1))


def _shown(value: ast.expr) -> str:
    return ast.unparse(value) if isinstance(value, ast.Constant | ast.Name) else "..."


def _off(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value in (None, False)


def name_of(function: ast.expr) -> str:
    """The last part of a called name; empty for anything else that is called."""
    return (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )
