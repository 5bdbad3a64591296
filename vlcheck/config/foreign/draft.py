"""A run in the making: values of another tool's file put where they belong, each with its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vlcheck.config.foreign.keys import Fate, Gone, To, Together, Unjudged
from vlcheck.config.reading.quoting import closest, quoted
from vlcheck.config.reading.scalars import plain_value
from vlcheck.config.validation.allowed import accepts, at, choices, inside
from vlcheck.finding import Json
from vlcheck.spec import Concern, Generation, Location, Origin, Outdated, Problem, Unread

_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
"""What the tools' own readers take for a switch: PyYAML's words, and argparse's."""
_GROUPED = re.compile(r"[-+]?\d+(_\d+)+")
"""Digits in groups, which Python and PyYAML take for a number."""
_ALL: tuple[Concern, ...] = ("memory", "labels", "placement", "data")


@dataclass
class Draft:
    """What is known so far of a run that another tool's file describes.

    Args:
        title: the tool and its version, for messages.
        given: the file's keys, as plain values.
        places: dotted path in the file to the place that set it.
        versions: of the packages whose arguments the file names.
        folder: what relative paths in the file are relative to.
    """

    title: str
    given: dict[str, Json]
    places: dict[str, Location]
    versions: Mapping[str, str]
    folder: Path
    document: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, Location] = field(default_factory=dict)
    idle: list[Location] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    outdated: list[Outdated] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    own_rows: bool = False
    generations: tuple[Generation, ...] = ()

    def __post_init__(self) -> None:
        self.sources[""] = self.place("")

    def place(self, key: str) -> Location:
        """Where the file sets a key, or what holds it; the whole file's place for one that it does not hold."""
        above = key
        while above not in self.places:
            above = above.rpartition(".")[0]
        return replace(self.places[above], key=key)

    def put(self, path: str, value: Json, key: str) -> None:
        """Set a field of the run to what a key of the file says; its items keep their own places."""
        section, _, name = path.partition(".")
        *inner, last = name.split(".")
        holder = self.document.setdefault(section, {})
        for count, part in enumerate(inner, start=2):
            holder = holder.setdefault(part, {})
            self.sources.setdefault(".".join(path.split(".")[:count]), self.place(key))
        holder[last] = _coerced(path, value)
        self.sources[path] = self.place(key)
        for below, where in self.places.items():
            if below.startswith(f"{key}.") and isinstance(value, dict | list):
                self.sources[f"{path}.{below.removeprefix(f'{key}.')}"] = replace(where, key=below)

    def hold(self, key: str, document: Mapping[str, Json], places: Mapping[str, Location]) -> None:
        """Put what a file holds in the place of the key that names it."""
        *above, last = key.split(".")
        holder: Any = self.given
        for part in above:
            holder = holder[part]
        holder[last] = document
        self.places.update({f"{key}.{path}": where for path, where in places.items() if path})

    def read(self, table: Mapping[str, Fate], *, prefix: str = "", title: str = "") -> None:
        """Do with each key of the file, or of a mapping in it, what a table says.

        Args:
            prefix: dotted path of the mapping, with a dot behind it.
            title: whose keys the table has, where they are not the tool's own.
        """
        holder: Any = self.value(prefix[:-1]) if prefix else self.given
        for name in holder:
            fate = table.get(name)
            if fate is None:
                self._unknown(prefix + name, table, title or self.title)
            else:
                self.take(prefix + name, fate)

    def take(self, key: str, fate: Fate) -> None:
        """Do with a key what is said of it."""
        value = self.value(key)
        if isinstance(fate, Gone):
            if numbers(self.versions.get(fate.package, "")) >= numbers(fate.since):
                message = f"{key} is no argument of {fate.package} {self.versions[fate.package]}"
                self.outdated.append(Outdated(self.place(key), message, fate.instead))
            self.take(key, fate.meant)
        elif isinstance(fate, To):
            self._map(key, value, fate)
        elif isinstance(fate, Unjudged) and value not in fate.harmless:
            self.doubt(key, *fate.touches)
        elif not isinstance(fate, Together):
            self.without_effect(key)

    def value(self, key: str) -> Json:
        """What the file says for a dotted path; None where it says nothing."""
        value: Any = self.given
        for part in key.split("."):
            value = _below(value, part)
        plain: Json = value
        return plain

    def on(self, key: str) -> bool:
        """Whether a switch is on."""
        value = self.value(key)
        return value is True or (isinstance(value, str) and _WORDS.get(value.lower(), False))

    def mapping(self, key: str) -> Mapping[str, Json] | None:
        """What the file says for a key that holds keywords; None, and a doubt, where it holds something else."""
        value = self.value(key)
        if isinstance(value, dict):
            return value
        if value is not None:
            self.doubt(key)
        return None

    def doubt(self, key: str, *touches: Concern, message: str = "") -> None:
        """Keep a key as not understood."""
        said = message or f"{quoted(self.value(key))} is not part of what vlcheck judges"
        self.unread.append(Unread(self.place(key), f"{key}: {said}", touches or _ALL))

    def refuse(self, key: str, message: str) -> None:
        """Keep a key as wrong: no run comes of this file."""
        self.problems.append(Problem(self.place(key), message))

    def without_effect(self, key: str) -> None:
        """Keep a key as one that changes nothing."""
        self.idle.append(self.place(key))

    def origin(self, name: str) -> Origin:
        """What became of the keys that no field holds."""
        return Origin(
            format=name,
            idle=tuple(self.idle),
            unread=tuple(self.unread),
            outdated=tuple(self.outdated),
            assumed=tuple(self.assumed),
            own_rows=self.own_rows,
            generations=self.generations,
        )

    def in_their_words(self, problem: Problem) -> Problem:
        """A problem of a field, told by the name that the file has for it."""
        for path in sorted(self.sources, key=len, reverse=True):
            key = self.sources[path].key
            theirs = "." in path and key and path != key
            if theirs and re.search(rf"(?<![\w.]){re.escape(path)}(?!\w)", problem.message):
                return replace(problem, message=problem.message.replace(path, key))
        return problem

    def _map(self, key: str, value: Json, fate: To) -> None:
        try:
            wanted = _coerced(fate.path, fate.convert(value))
        except ValueError as wrong:
            self.refuse(key, f"{key} is {quoted(value)}; allowed: {wrong}")
            return
        annotation = at(fate.path.split("."))
        if wanted is None and not accepts(annotation, type(None)):
            self.without_effect(key)  # null leaves it to the tool
            return
        known = choices(annotation)
        if fate.otherwise is not None and isinstance(wanted, str) and wanted not in known:
            self.take(key, fate.otherwise)
        else:
            self.put(fate.path, wanted, key)

    def _unknown(self, key: str, table: Mapping[str, Fate], title: str) -> None:
        word, taken = key.rpartition(".")[2], {name: fate for name, fate in table.items() if not isinstance(fate, Gone)}
        near = closest(word, [name for name, fate in taken.items() if isinstance(fate, To)]) or closest(word, taken)
        self.doubt(key, message=f"no argument of {title}" + (f"; did you mean {near}?" if near else ""))


def _below(value: Any, part: str) -> Any:
    if isinstance(value, list):
        return value[int(part)] if part.isdigit() and int(part) < len(value) else None
    return value.get(part) if isinstance(value, Mapping) else None


def _coerced(path: str, value: Json) -> Json:
    """A text as the switch or number that its field wants, as the tools' own readers take it."""
    annotation = at(path.split("."))
    if not isinstance(value, str) or annotation is None or accepts(annotation, str) or choices(annotation):
        return value
    if accepts(annotation, bool) and value.lower() in _WORDS:
        return _WORDS[value.lower()]
    if inside(annotation, 0) is not None and not accepts(annotation, int):
        return [value]  # one word after a flag that takes several
    number = plain_value(value.replace("_", "") if _GROUPED.fullmatch(value) else value)
    wanted = (int, float) if accepts(annotation, float) else (int,) if accepts(annotation, int) else ()
    return number if type(number) in wanted else value


def numbers(version: str) -> tuple[int, ...]:
    """A version as numbers that can be compared."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
