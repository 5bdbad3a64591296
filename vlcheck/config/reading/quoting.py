"""How messages show what a user wrote: on one line, short, in YAML's own spelling."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from difflib import get_close_matches


def quoted(value: object, limit: int = 60) -> str:
    """Show a value as it could be typed into the config."""
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else (".inf" if value > 0 else "-.inf")
    if isinstance(value, int) and abs(value) >= 10**limit:
        return f"an integer of {len(str(abs(value)))} digits"
    return _one_line(json.dumps(value, ensure_ascii=False), limit)


def named(path: Iterable[object], limit: int = 120) -> str:
    """Show a key path with dots."""
    return _one_line(".".join(map(str, path)), limit)


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, if any."""
    known = list(known)
    plain = {name.lower().replace("-", "_"): name for name in known}
    matches = get_close_matches(word[:100].lower().replace("-", "_"), plain, n=1, cutoff=0.7)
    return plain[matches[0]] if matches else None


def _one_line(text: str, limit: int) -> str:
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
