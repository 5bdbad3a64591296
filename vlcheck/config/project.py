"""`[tool.vlcheck]` of the nearest pyproject.toml: what a project asks of every audit."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlcheck.config.hardware import on_hardware
from vlcheck.config.reading.quoting import closest, quoted
from vlcheck.finding import Severity, collector
from vlcheck.spec import ConfigError, Location, Problem, RunSpec

NAME = "pyproject.toml"
KEYS: Mapping[str, str] = {
    "select": "a list of codes, prefixes (VLC1) or names of rules",
    "ignore": "a list of codes, prefixes (VLC1) or names of rules",
    "severity": "a table of codes, prefixes or names to error, warning or note",
    "fail-on": "error, warning or note",
    "format": "a report's format",
    "gpu": "a card",
    "baseline": "a file, relative to this one",
}
LEVELS = {str(severity): severity for severity in Severity}


@dataclass(frozen=True)
class ProjectSettings:
    """What a project's file says of audits; a field that it leaves out is empty or None."""

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    severity: Mapping[str, Severity] = field(default_factory=dict)
    fail_on: Severity | None = None
    format: str | None = None
    gpu: str | None = None
    baseline: Path | None = None
    places: Mapping[str, Location] = field(default_factory=dict)

    @property
    def threshold(self) -> Severity:
        """The least severity that fails; an error where nothing is said."""
        return Severity.ERROR if self.fail_on is None else self.fail_on  # a note is 0

    def refuse(self, key: str, problem: str) -> ConfigError:
        """The error about a value that only its reader could judge."""
        return ConfigError(Problem(self.places[key], f"{key}: {problem}"))


@collector("reading the project's settings")
def read_project(folder: Path) -> ProjectSettings:
    """The settings of the nearest pyproject.toml with a table `tool.vlcheck`, from a folder upward.

    Raises:
        ConfigError: for a key or a value that is not allowed, each at its line; for such a file that is not TOML.
    """
    for place in (folder.absolute(), *folder.absolute().parents):
        text = _text(place / NAME)
        if "vlcheck" in text and (table := _table(text, str(place / NAME))) is not None:
            return _settings(table, text, place / NAME)
    return ProjectSettings()


def on_project(spec: RunSpec, project: ProjectSettings) -> RunSpec:
    """The run on the project's card, where neither its config nor an option names one."""
    if project.gpu is None or spec.hardware.gpu is not None or spec.hardware.memory_gib is not None:
        return spec
    return on_hardware(spec, gpu=project.gpu, place=project.places["gpu"].file)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):  # another tool's to complain of
        return ""


def _table(text: str, file: str) -> Mapping[str, Any] | None:
    try:
        tools = tomllib.loads(text).get("tool", {})
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(Problem(Location(file), f"not valid TOML: {error}")) from None
    table = tools.get("vlcheck") if isinstance(tools, dict) else None
    if table is not None and not isinstance(table, dict):
        raise ConfigError(Problem(Location(file), f"tool.vlcheck is {quoted(table)}; allowed: a table"))
    return table


def _settings(table: Mapping[str, Any], text: str, file: Path) -> ProjectSettings:
    places = {key: _place(key, text, str(file)) for key in table}
    problems = [Problem(places[key], said) for key, value in table.items() if (said := _problem(key, value))]
    if problems:
        raise ConfigError(*problems)
    return ProjectSettings(
        select=tuple(table.get("select", ())),
        ignore=tuple(table.get("ignore", ())),
        severity={code: LEVELS[level] for code, level in table.get("severity", {}).items()},
        fail_on=LEVELS.get(table.get("fail-on", "")),
        format=table.get("format"),
        gpu=table.get("gpu"),
        baseline=file.parent / table["baseline"] if "baseline" in table else None,
        places=places,
    )


def _problem(key: str, value: Any) -> str:
    """What is wrong with an entry of the table; empty where nothing is."""
    if key not in KEYS:
        near = closest(key, KEYS)
        return f"unknown key {quoted(key)[1:-1]}; " + (
            f"did you mean {near}?" if near else f"allowed: {', '.join(KEYS)}"
        )
    match key:
        case "select" | "ignore":
            sound = isinstance(value, list) and all(isinstance(code, str) and code.strip() for code in value)
        case "severity":
            sound = isinstance(value, dict) and all(
                isinstance(level, str) and level in LEVELS for level in value.values()
            )
        case "fail-on":
            sound = isinstance(value, str) and value in LEVELS
        case _:
            sound = isinstance(value, str) and bool(value.strip())
    return "" if sound else f"{key} is {quoted(_plain(value))}; allowed: {KEYS[key]}"


def _plain(value: Any) -> Any:
    """A TOML value as JSON could hold it."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if isinstance(value, bool | int | float | str) else str(value)


def _place(key: str, text: str, file: str) -> Location:
    """Where a key seems to stand; tomllib tells no places."""
    table = re.search(r"^\s*\[\s*tool\s*\.\s*vlcheck\s*[\].]", text, re.MULTILINE)
    start = table.start() if table else 0
    entry = re.compile(rf"^\s*(?:\[\s*tool\s*\.\s*vlcheck\s*\.\s*)?[\"']?{re.escape(key)}[\"']?\s*[=.\]]", re.MULTILINE)
    found = entry.search(text, start)
    at = found.end() if found else start
    return Location(file, text.count("\n", 0, at) + 1, 1, f"tool.vlcheck.{key}")
