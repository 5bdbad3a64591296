"""A job file's document, walked by key with the place of each value; nothing in it is taken on trust."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from vlcheck.config.reading.quoting import quoted
from vlcheck.finding import Json
from vlcheck.launch.job import Placed
from vlcheck.spec import ConfigError, Location, Problem

T = TypeVar("T")


@dataclass(frozen=True)
class Tree:
    """A value of a document and the path to it; a value that is missing is None, and so is all below it."""

    value: Json
    sources: Mapping[str, Location]
    path: str = ""

    def __truediv__(self, key: str | int) -> Tree:
        """What stands under a key, or an item; a list of one mapping, as Terraform writes a block, is that mapping."""
        if isinstance(key, str) and isinstance(self.value, list) and len(self.value) == 1:
            return self / 0 / key
        below: Json = None
        if isinstance(key, str) and isinstance(self.value, dict):
            below = self.value.get(key)
        elif isinstance(key, int) and isinstance(self.value, list) and -len(self.value) <= key < len(self.value):
            below = self.value[key]
        return Tree(below, self.sources, f"{self.path}.{key}".lstrip("."))

    def at(self, *keys: str) -> Tree:
        """What stands under the first of these spellings of a key that is there."""
        return next((self / key for key in keys if self / key), self / keys[0])

    def down(self, *keys: str | int) -> Tree:
        """What stands under these keys, one below the other."""
        found = self
        for key in keys:
            found = found / key
        return found

    def __bool__(self) -> bool:
        """Whether something stands there; Terraform writes a block that is not there as an empty list."""
        return self.value is not None and self.value != []

    @property
    def where(self) -> Location:
        """The value's place, or that of the nearest value above it."""
        path = self.path
        while path not in self.sources and path:
            path = path.rpartition(".")[0]
        found = self.sources.get(path) or Location("<python>")
        return replace(found, key=self.path)

    def items(self) -> Iterator[Tree]:
        """The items of a list; nothing where there is no list.

        Raises:
            ConfigError: if something else stands there.
        """
        if self.value is not None and not isinstance(self.value, list):
            raise self.refusal("allowed: a list")
        for index in range(len(self.value or ())):
            yield self / index

    def entries(self) -> Iterator[tuple[str, Tree]]:
        """The keys of a mapping, each with its value; nothing where there is no mapping.

        Raises:
            ConfigError: if something else stands there.
        """
        if isinstance(self.value, list) and len(self.value) == 1:
            yield from (self / 0).entries()
            return
        if self.value is not None and not isinstance(self.value, dict):
            raise self.refusal("allowed: a mapping")
        for key in self.value or ():
            yield key, self / key

    def read(self, convert: Callable[[Json], T]) -> Placed[T] | None:
        """The value in its own type, with its place; None where it is missing.

        Args:
            convert: raises ValueError with what is allowed.

        Raises:
            ConfigError: for a value that cannot be what it must be.
        """
        if self.value is None:
            return None
        try:
            return Placed(convert(self.value), self.where)
        except ValueError as wrong:
            raise self.refusal(str(wrong)) from None

    def refusal(self, allowed: str) -> ConfigError:
        """The error for a value of no use: place, value seen, values allowed."""
        kinds: dict[type, str] = {dict: "a mapping", list: "a list"}
        seen = kinds.get(type(self.value)) or quoted(self.value)
        return ConfigError(Problem(self.where, f"{self.path} is {seen}; {allowed}"))
