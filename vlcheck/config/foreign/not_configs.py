"""Files that are no run's config: said in one line what they are, never key by key."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vlcheck.finding import Json
from vlcheck.spec import ConfigError, Location, Problem

ENOUGH = 64 * 1024
"""Characters that are looked at: what a file is shows in its head."""

_ALLOWED = "allowed: a run's config, as YAML or JSON"
_PACKAGES = f"is a list of packages; {_ALLOWED}"
JOB = "`vlcheck preflight` reads jobs; name the config of the run that it starts"


@dataclass(frozen=True)
class Text:
    """A kind of text, told by its head or its name's end."""

    message: str
    looks: Callable[[str], object]
    suffixes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Keys:
    """A kind of YAML or JSON mapping, told by its keys: all of `has` and, where there are some, one of `any`."""

    message: str
    has: frozenset[str]
    any: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()


def _pattern(pattern: str) -> Callable[[str], object]:
    return re.compile(pattern, re.MULTILINE).search


def _first(head: str) -> str:
    """The first line that says something."""
    return next((line for line in head.splitlines() if line.strip() and not line.startswith("#")), "")


def _rows(head: str) -> bool:
    """Whether the first two lines are JSON objects each, or a list of objects begins."""
    if re.match(r"\s*\[\s*\{", head):
        return True
    lines = [line for line in head.splitlines()[:20] if line.strip()][:2]
    try:
        return len(lines) == 2 and all(isinstance(json.loads(line), dict) for line in lines)
    except (ValueError, RecursionError):
        return False


def is_modal(head: str) -> bool:
    """Whether a file is a Python script of Modal's, by its imports."""
    return re.search(r"^(?:import|from) +modal\b", head, re.MULTILINE) is not None


TEXTS = (
    Text(f"is a job; {JOB}", is_modal),
    Text(f"is a job; {JOB}", lambda head: len(re.findall(r"^apiVersion:", head, re.MULTILINE)) > 1),
    Text(f"is a data set; {_ALLOWED}, which names the data", _rows, (".jsonl", ".csv", ".tsv", ".parquet", ".arrow")),
    Text(f"is a page of text; {_ALLOWED}", _pattern(r"^(```|<!DOCTYPE|<html)"), (".md", ".rst", ".html", ".ipynb")),
    Text(_PACKAGES, _pattern(r'^\[\[package\]\]|"lockfileVersion"|^[\w.\[\]-]+==\d'), (".lock",)),
    Text(f"is a TOML file; {_ALLOWED}", lambda head: re.match(r"\[[\w.-]+\]\s*$", _first(head)), (".toml",)),
)
"""In the order in which they are asked."""

_RUN = frozenset(("model", "model_name_or_path", "base_model", "lora"))
KEYS = (
    Keys(
        "is a DeepSpeed config alone; name the config of the run that points to it",
        frozenset(("zero_optimization",)),
        lacks=_RUN,
    ),
    Keys(
        "is accelerate's config alone; name the config, or the shell script, of the run that it launches",
        frozenset(("distributed_type",)),
        lacks=_RUN,
    ),
    Keys(f"is a job; {JOB}", frozenset(("kind", "apiVersion"))),
    Keys(f"is a job; {JOB}", frozenset(("run",)), frozenset(("resources", "setup", "num_nodes")), _RUN),
    Keys(f"is a job; {JOB}", frozenset(("services",)), lacks=_RUN),
    Keys(f"is a job; {JOB}", frozenset(("terraform_version",))),
    Keys(f"is a job; {JOB}", frozenset(("jobDefinitionName",))),
    Keys(f"is a job; {JOB}", frozenset(("AlgorithmSpecification", "ResourceConfig"))),
    Keys(f"is a job; {JOB}", frozenset(("imageName",)), frozenset(("gpuTypeIds", "gpuTypeId", "gpuCount"))),
    Keys(f"is a job; {JOB}", frozenset(("image", "gpu", "name")), lacks=_RUN),
    Keys(f"is a job; {JOB}", frozenset(("template",)), frozenset(("launchStage", "name")), _RUN),
    Keys(f"is a CI workflow; {_ALLOWED}", frozenset(("jobs",)), lacks=_RUN),
    Keys(f"is the state of a finished run; {_ALLOWED}", frozenset(("log_history",))),
    Keys(
        "is a model's config; name the config of a run that trains it (`vlcheck init`)",
        frozenset(("model_type",)),
        frozenset(("architectures", "transformers_version", "text_config", "vision_config")),
        _RUN,
    ),
    Keys(f"is a tokenizer's config; {_ALLOWED}", frozenset(("tokenizer_class",)), lacks=_RUN),
    Keys(_PACKAGES, frozenset(("lockfileVersion",))),
    Keys(_PACKAGES, frozenset(("dependencies",)), lacks=_RUN),
    Keys(
        "is an Axolotl config for text only: it has no processor_type, so no image reaches the model",
        frozenset(("base_model",)),
        frozenset(("datasets", "micro_batch_size", "sequence_len", "adapter")),
        frozenset(("processor_type",)),
    ),
)
"""In the order in which they are asked."""


def read_head(path: str | os.PathLike[str]) -> str:
    """What a file begins with; empty where it cannot be read, which whoever reads it next says."""
    try:
        if not Path(path).is_file():
            return ""
        with Path(path).open("rb") as stream:
            return stream.read(ENOUGH).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


def refuse_text(path: str | os.PathLike[str]) -> None:
    """Refuse a file that its head shows to be something else than a config.

    Raises:
        ConfigError: with one line that says what it is.
    """
    file, head = os.fsdecode(path), read_head(path)
    for kind in TEXTS if head else ():
        if file.endswith(kind.suffixes or ("\0",)) or kind.looks(head):
            raise ConfigError(Problem(Location(file), kind.message))


def refuse_keys(document: Mapping[str, Json], where: Location) -> None:
    """Refuse a mapping whose keys show it to be something else than a run's config.

    Raises:
        ConfigError: with one line that says what it is.
    """
    keys = set(document)
    for kind in KEYS:
        if kind.has <= keys and (not kind.any or kind.any & keys) and not kind.lacks & keys:
            raise ConfigError(Problem(where, kind.message))
