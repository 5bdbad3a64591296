"""Where what vlcheck knows of a run came from: places in files, what is wrong there, and what was not understood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, order=True)
class Location:
    """A place in a config file; `key` is the dotted path in that file, lines and columns count from 1."""

    file: str
    line: int = 1
    column: int = 1
    key: str = ""
    default: str = ""
    """Whose default this value is, where nobody wrote it: the place is then the section's."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}{self.default and f' ({self.default})'}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a config, at one place."""

    where: Location
    message: str

    def __str__(self) -> str:
        return f"{self.where.file}:{self.where.line}:{self.where.column}: {self.message}"


class ConfigError(Exception):
    """The run's description cannot be used; holds every problem found, not just the first."""

    def __init__(self, *problems: Problem) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, problems)))


@dataclass(frozen=True)
class Ignore:
    """A comment of the config: findings of these rules at a line do not count, for a reason."""

    where: Location
    line: int
    """The line that the comment speaks for."""
    codes: tuple[str, ...]
    reason: str


Concern: TypeAlias = Literal["memory", "labels", "placement", "data"]
"""What a setting can change of what is judged."""


@dataclass(frozen=True)
class Unread:
    """A key of another tool's file that no field of a run holds, and that can change what is judged."""

    where: Location
    message: str
    touches: tuple[Concern, ...]


@dataclass(frozen=True)
class Outdated:
    """An argument that the framework's version no longer takes."""

    where: Location
    message: str
    instead: str


@dataclass(frozen=True)
class Generation:
    """A call that generates from prompts which were padded to one length."""

    where: Location
    side: str
    """On which they are padded, `left` or `right`; empty where only a run tells."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Another tool's file that a run was read from, and what became of the keys that no field of the run holds."""

    format: str
    idle: tuple[Location, ...] = ()
    """Keys without effect on what is judged."""
    unread: tuple[Unread, ...] = ()
    outdated: tuple[Outdated, ...] = ()
    assumed: tuple[str, ...] = ()
    """What was taken for granted where the file leaves something open, a sentence each."""
    own_rows: bool = False
    """Whether a script makes its rows itself, so that their columns are known only when it runs."""
    generations: tuple[Generation, ...] = ()
    """What a script generates in batches."""
