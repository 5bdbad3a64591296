"""Plain scalars of YAML 1.2's core schema (https://yaml.org/spec/1.2.2/, section 10.3)."""

from __future__ import annotations

import re
from typing import TypeAlias

Scalar: TypeAlias = bool | int | float | str | None

MAX_DIGITS = 400  # any double fits; Python itself gives up at 4300

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"([-+]?)(\.inf|\.Inf|\.INF)")
_NAN = {".nan", ".NaN", ".NAN"}


def plain_value(text: str) -> Scalar:
    """Give an unquoted scalar its type: `1e-5` is a number, `yes` and `1_000` are strings.

    Raises:
        ValueError: for an integer of more than `MAX_DIGITS` digits.
    """
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INTEGER.fullmatch(text) or _BASED.fullmatch(text):
        if len(text) > MAX_DIGITS:
            raise ValueError(f"integer of {len(text)} digits; allowed: at most {MAX_DIGITS}")
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    infinite = _INFINITE.fullmatch(text)
    if infinite:
        return float(f"{infinite[1]}inf")
    return float("nan") if text in _NAN else text
