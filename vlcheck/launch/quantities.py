"""Amounts as job files write them: CPUs, bytes, seconds. Each raises `ValueError` with what is allowed."""

from __future__ import annotations

import math
import re

from vlcheck.finding import Json
from vlcheck.gpus import GIB

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12,
          "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}  # fmt: skip
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*([kmgt]i?)?b?\+?", re.IGNORECASE)
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)\s*([dhms]|$)")
_TIME = re.compile(r"(?:\s*\d{1,12}(?:\.\d{1,9})?\s*[dhms]){1,4}|\d{1,12}(?:\.\d{1,9})?")
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1, "": 1}
_MOST = 10**18


def text(value: Json) -> str:
    """A text that is not empty; a number is taken as it is written."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        raise ValueError("allowed: a text")
    return str(value)


def number(value: Json) -> float:
    """A number that is not negative, written as one or in quotes."""
    try:
        found = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        found = math.nan
    if not 0 <= found < _MOST:
        raise ValueError("allowed: a number from 0")
    return found


def whole(value: Json) -> int:
    """A whole number from 0, written as one or in quotes."""
    found = number(value)
    if found != int(found):
        raise ValueError("allowed: a whole number from 0")
    return int(found)


def switch(value: Json) -> bool:
    """A boolean, written as one or in quotes."""
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise ValueError("allowed: true or false")
    return value


def cpus(value: Json) -> float:
    """Virtual CPUs: `4`, `"4000m"`, SkyPilot's `"4+"`."""
    if isinstance(value, str):
        value = value.strip().removesuffix("+")
        if value.endswith("m"):
            return number(value[:-1]) / 1000
    try:
        return number(value)
    except ValueError:
        raise ValueError("allowed: a number of CPUs, for example 8 or 8000m") from None


def size(value: Json, *, unit: int = 1) -> int:
    """Bytes: `"80Gi"`, `"512M"`, or a bare number.

    Args:
        unit: bytes of a bare number's one.
    """
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found:
        return int(float(found[1]) * (_UNITS[(found[2] or "").lower()] if found[2] else unit))
    try:
        return int(number(value) * unit)
    except ValueError:
        raise ValueError("allowed: an amount of memory, for example 80Gi") from None


def gibibytes(value: Json) -> int:
    """Bytes of an amount that is in GiB where it has no unit."""
    return size(value, unit=GIB)


def mebibytes(value: Json) -> int:
    """Bytes of an amount that is in MiB where it has no unit."""
    return size(value, unit=2**20)


def seconds(value: Json) -> int:
    """Seconds: `3600`, `"3600s"`, `"360m"`, `"1h30m"`."""
    if isinstance(value, str):
        plain = value.strip().lower()
        if not _TIME.fullmatch(plain):
            raise ValueError("allowed: a time, for example 3600s, 360m or 6h")
        return math.ceil(sum(float(count) * _SECONDS[unit] for count, unit in _PART.findall(plain)))
    try:
        return math.ceil(number(value))
    except ValueError:
        raise ValueError("allowed: a time, for example 3600s, 360m or 6h") from None
