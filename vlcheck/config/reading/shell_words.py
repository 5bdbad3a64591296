"""The commands of a shell script as words with their places; nothing is run.

What a script assigns before (`NAME=value`, `ARGS=(...)`) is put in where it is used, and whole numbers are reckoned
with (`$((16 / BATCH))`, `$(expr 16 / $BATCH)`). What only running the script could tell (`$(...)`, a variable from
outside) stays as it is written, and the word says that it is not sure.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

MOST_WORDS = 5_000
LONGEST = 500
"""Characters of a command in brackets that are looked at for its end."""

_ENDS = frozenset(";&|\n(){}")
_USE = re.compile(r"\$(?:\{(\w+)(\[[@*]\])?(?::?-([^{}]*))?\}|(\w+))")
_ASSIGNED = re.compile(r"(\w+)(\+?)=")


@dataclass(frozen=True)
class Word:
    """One word of a command, without its quotes."""

    text: str
    line: int
    column: int
    sure: bool = True
    """Whether the text is what the shell would make of it."""


Variables: TypeAlias = dict[str, tuple[Word, ...]]


def read_commands(text: str) -> Iterator[tuple[Word, ...]]:
    """Yield the simple commands of a script in order, assignments left out.

    Compound commands (`if`, `for`) are not understood: what stands in them is read as if it were run once.
    """
    known: Variables = {}
    words: list[Word] = []
    count = 0
    reader = _Reader(text)
    while (word := reader.word(known)) is not None:
        count += len(word)
        if count > MOST_WORDS:
            return
        if not word:
            if words:
                yield tuple(words)
            words = []
        elif not words and (assigned := _ASSIGNED.match(word[0].text)) and word[0].text[0] != "-":
            name, more = assigned.groups()
            value = replace(word[0], text=word[0].text[assigned.end() :])
            values = reader.array(known) if not value.text and reader.opens() else (value, *word[1:])
            known[name] = (*known.get(name, ()), *values) if more else values
        elif not (not words and word[0].text in ("export", "local", "then", "do", "else")):
            words += word
    if words:
        yield tuple(words)


class _Reader:
    """Where in the text the next word begins."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.line, self.start = text.replace("\r\n", "\n"), 0, 1, 0

    def opens(self) -> bool:
        """Whether a list begins right here."""
        return self.text.startswith("(", self.at)

    def array(self, known: Variables) -> tuple[Word, ...]:
        """The words of a list in brackets."""
        self.at += 1
        found: list[Word] = []
        while self.at < len(self.text) and not self.text.startswith(")", self.at) and len(found) < MOST_WORDS:
            found += self.word(known, lists=True) or ()
        self.at += 1
        return tuple(found)

    def word(self, known: Variables, *, lists: bool = False) -> tuple[Word, ...] | None:
        """The next word, or several where a variable holds several; none at a command's end; None at the text's.

        Args:
            lists: the word is one of a list, in which line ends separate words as blanks do.
        """
        self._skip()
        if self.at >= len(self.text):
            return None
        if lists and self.text[self.at] == ")":
            return ()
        if self.text[self.at] in _ENDS:
            self._step()
            return ()
        where = (self.line, self.at - self.start + 1)
        pieces: list[tuple[str, str]] = []  # quote and text
        while self.at < len(self.text) and not (self.text[self.at].isspace() or self.text[self.at] in _ENDS):
            pieces.append(self._piece())
        return tuple(_expanded(pieces, where, known))

    def _skip(self) -> None:
        while self.at < len(self.text):
            if self.text.startswith("\\\n", self.at):
                self._step()
                self._step()
            elif self.text[self.at] in " \t":
                self._step()
            elif self.text[self.at] == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            else:
                return

    def _piece(self) -> tuple[str, str]:
        sign = self.text[self.at]
        if sign in "'\"`":
            return sign, self._quoted(sign)
        if self.text.startswith("$(", self.at):
            return "`", self._bracketed()
        if self.text.startswith("${", self.at):
            end = self.text.find("}", self.at)
            return "", self._take(1 if end < 0 else end + 1 - self.at)
        if sign == "\\":
            self._step()
            escaped = self._take(1)
            return "'", "" if escaped == "\n" else escaped
        return "", self._take(1)

    def _quoted(self, close: str) -> str:
        self._step()
        start = self.at
        while self.at < len(self.text) and self.text[self.at] != close:
            if self.text[self.at] == "\\" and close == '"':
                self._step()
            self._step()
        inner = self.text[start : self.at]
        self._step()
        return re.sub(r"\\\n", "", re.sub(r'\\(["$`\\])', r"\1", inner)) if close == '"' else inner

    def _bracketed(self) -> str:
        """What stands between the brackets of `$(...)`, those of `((...))` among it."""
        depth, end = 0, self.text.find(")", self.at)
        for at in range(self.at + 1, min(len(self.text), self.at + LONGEST)):
            depth += {"(": 1, ")": -1}.get(self.text[at], 0)
            if not depth:
                end = at
                break
        return self._take((end if end >= 0 else len(self.text)) + 1 - self.at)[2:].removesuffix(")")

    def _take(self, count: int) -> str:
        start = self.at
        for _ in range(count):
            self._step()
        return self.text[start : self.at]

    def _step(self) -> None:
        if self.text.startswith("\n", self.at):
            self.line, self.start = self.line + 1, self.at + 1
        self.at = min(self.at + 1, len(self.text))


def _expanded(pieces: list[tuple[str, str]], where: tuple[int, int], known: Variables) -> Iterator[Word]:
    """The words of one word's pieces: a variable outside of quotes falls apart at its blanks."""
    text, sure = "", True
    joined: list[tuple[str, str]] = []
    for quote, piece in pieces:
        if joined and joined[-1][0] == quote == "":
            joined[-1] = ("", joined[-1][1] + piece)
        else:
            joined.append((quote, piece))
    whole = _USE.fullmatch(joined[0][1]) if len(joined) == 1 and joined[0][0] in ("", '"') else None
    if whole and (whole[2] or not joined[0][0]) and (values := known.get(whole[1] or whole[4])) is not None:
        for value in values:
            yield from (value,) if whole[2] else (replace(value, text=part) for part in value.text.split())
        return
    for quote, piece in joined:
        if quote == "'":
            text += piece
        elif quote == "`":
            count = _counted(piece, known)
            text, sure = text + (f"$({piece})" if count is None else str(count)), sure and count is not None
        else:
            filled, certain = _filled(piece, known)
            text, sure = text + filled, sure and certain
    yield Word(text, *where, sure)


def _counted(command: str, known: Variables) -> int | None:
    """What `$((...))` and `$(expr ...)` give, where they join whole numbers and what the script has assigned."""
    if command.startswith("(") and command.endswith(")"):
        text = re.sub(r"(?<![\w$])([A-Za-z_]\w*)", r"$\1", command[1:-1])
    elif command.lstrip().startswith("expr "):
        text = re.sub(r"[\\'\"]", "", command.lstrip().removeprefix("expr "))
    else:
        return None
    filled, sure = _filled(text, known)
    if not sure or len(filled) > LONGEST or not re.fullmatch(r"[\d\s+*/%()-]+", filled):
        return None
    try:
        return _reckoned(ast.parse(filled.strip(), mode="eval").body)
    except (SyntaxError, MemoryError, RecursionError, ArithmeticError, KeyError, ValueError):
        return None


_OPERATIONS: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.floordiv,
    ast.Mod: operator.mod,
}  # fmt: skip


def _reckoned(node: ast.expr) -> int:
    """Division is that of whole numbers, as the shell has it."""
    if isinstance(node, ast.BinOp):
        return _OPERATIONS[type(node.op)](_reckoned(node.left), _reckoned(node.right))
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    raise ValueError("no whole number")


def _filled(text: str, known: Variables) -> tuple[str, bool]:
    sure = True

    def value(use: re.Match[str]) -> str:
        nonlocal sure
        held = known.get(use[1] or use[4])
        if held is not None:
            sure = sure and all(word.sure for word in held)
            return " ".join(word.text for word in held)
        if use[3] is not None:
            return use[3]
        sure = False
        return use[0]

    filled = _USE.sub(value, text)
    return filled, sure and "$(" not in text
