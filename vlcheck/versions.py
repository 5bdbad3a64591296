"""Versions: vlcheck's own, those of the packages that decide what a model looks like, which of them were tested."""

from __future__ import annotations

from functools import cache

__version__ = "0.1.0"

TESTED = {  # first version below the metadata's bound is refused by pip; last one is what the suite ran with
    "torch": ("2.11", "2.13"),
    "transformers": ("5.17", "5.23"),
    "peft": ("0.21", "0.21"),
    "bitsandbytes": ("0.50", "0.50"),
}


def installed() -> dict[str, str]:
    """Versions of the packages that decide what a model looks like."""
    return {name: _installed(name) for name in TESTED}


@cache
def _installed(name: str) -> str:
    """Read once: a run asks at every checkpoint, and imported packages do not change."""
    from importlib.metadata import PackageNotFoundError, version  # half of what `vlcheck rules` would import

    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def untested(versions: dict[str, str]) -> list[str]:
    """One remark for each package outside the range that the test suite covers."""
    return [
        f"{name} {versions[name]} is outside the tested range {first} to {last}; findings may not hold there"
        for name, (first, last) in TESTED.items()
        if not _numbers(first) <= _numbers(versions[name])[:2] <= _numbers(last)
    ]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("+", maxsplit=1)[0].split(".")[:2] if part.isdigit())
