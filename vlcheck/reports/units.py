"""Values as the text report shows them: short, with units, and harmless to a terminal."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from vlcheck.gpus import show_gib

SHOWN = 4  # entries of one list or mapping
LONGEST = 120  # characters of one value
REPR = re.compile(r"\b([A-Za-z_]\w*)\(\n(?: +.*\n)*\)")
"""How torch prints a module that has children: its class, then each child on indented lines of its own."""
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, bidi marks, unpaired surrogates, odd line ends


def show_measured(measured: Mapping[str, Any]) -> str:
    """What was measured, as `name value, name value`; bytes are printed in GiB."""
    return ", ".join(_named(str(name), value) for name, value in measured.items())


def show_parameters(count: int) -> str:
    """A parameter count, rounded: `31.3B parameters`."""
    for size, letter in ((10**9, "B"), (10**6, "M")):
        if count >= size:
            return f"{count / size:,.1f}{letter} parameters"
    return f"{count:,} parameter{'' if count == 1 else 's'}"


def brief(text: str) -> str:
    """A message without the dump of a module that a library put into it, and no longer than its first sentence then.

    `Target module Clip(\\n  (linear): ...\\n) is not supported. Currently, only ...` becomes `Target module Clip(...)
    is not supported.` Any other text stays as it is.
    """
    short = REPR.sub(r"\1(...)", text)
    return short if short == text else SENTENCE.split(short, maxsplit=1)[0]


def plain(text: str) -> str:
    """Text on one line, without a character that could move the cursor or hide its neighbours.

    Line ends and tabs become spaces; every other control character is shown as its escape.
    """
    spaced = text.replace("\r\n", " ").replace("\n", " ").replace("\t", "    ")
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) in HIDDEN else c for c in spaced)


def lines_of(text: str) -> str:
    """Text that keeps its line ends, each line as harmless as `plain` makes it."""
    return "\n".join(map(plain, text.replace("\r\n", "\n").split("\n")))


def _named(name: str, value: Any) -> str:
    if name.endswith("_bytes") and isinstance(value, int):
        return f"{_words(name.removesuffix('_bytes'))} {show_gib(value)}"
    return f"{_words(name)} {_shown(value)}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _shown(value: Any) -> str:
    text = _written(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _written(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return _listed([f"{key}: {_shown(item)}" for key, item in value.items()], "{}")
    if isinstance(value, list | tuple):
        return _listed([_shown(item) for item in value], "[]")
    return str(value)


def _listed(entries: list[str], brackets: str) -> str:
    more = f", ... {len(entries)} in all" if len(entries) > SHOWN else ""
    return f"{brackets[0]}{', '.join(entries[:SHOWN])}{more}{brackets[1]}"
