"""What sort of thing a path is: a shell script, a Python script or notebook, a folder, or none of these."""

from __future__ import annotations

import os
import re
from pathlib import Path

from vlcheck.config.foreign.not_configs import read_head

_SHELL = re.compile(r"#!.*\b(?:ba|z|da|)sh\b")
_SUFFIXES = (".sh", ".bash", ".slurm", ".sbatch")
_ASSIGNED = re.compile(r"(?:export )?\w+=\S*$")
_LAUNCHED = re.compile(
    r"(?:\w+=\S+ )*(?:accelerate launch|torchrun|trl sft|swift sft|axolotl train|llamafactory-cli train|"
    r"python3? \S+\.py)(?: |$)"
)
_PYTHON = re.compile(r"^(?:import [\w.]+|from [\w.]+ import )", re.MULTILINE)
_PAGE = re.compile(r"^(?:```|<!DOCTYPE|<html)", re.MULTILINE)
_NOTEBOOK = re.compile(r'"(?:nbformat|cell_type)"\s*:')


def is_shell(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a shell script, by its first line, its name or the command that it begins with."""
    head = read_head(path)
    if _SHELL.match(head) or (head and os.fsdecode(path).endswith(_SUFFIXES)):
        return True
    lines = (line.strip() for line in head.splitlines())
    first = next((line for line in lines if line and not line.startswith("#") and not _ASSIGNED.match(line)), "")
    return _LAUNCHED.match(first) is not None


def is_python(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a Python script or a notebook, by what it begins with, or by its name."""
    head, name = read_head(path), os.fsdecode(path)
    if not head or (_PAGE.search(head) and not name.endswith((".py", ".ipynb"))):
        return False
    if name.endswith((".py", ".ipynb")):
        return True
    if head.lstrip().startswith("{"):
        return _NOTEBOOK.search(head) is not None
    return _PYTHON.search(head) is not None and not name.endswith((".md", ".rst", ".html", ".sh", ".yaml", ".yml"))


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder; what the system refuses is none."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False
