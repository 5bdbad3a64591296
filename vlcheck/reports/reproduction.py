"""The article's figures beside ours, a line a system and prompt."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vlcheck.reports.units import plain

HEAD = ("system", "prompt", "the article", "ours: exact match", "ours: the article's score")
NOTES = (
    "the article: quoted from retellings, which disagree (93.2 % beside 94 %); 200 rows are inferred, since 67, 89 and "
    "78 are multiples of half a point",
    "in brackets: 95 % intervals over the pictures (Wilson); nothing is said of other seeds",
    "the article's score takes the longest name anywhere in an answer; exact match the name and nothing else",
)


def render_reproduction(
    lines: Sequence[Mapping[str, Any]], *, parameters: int | None = None, width: int = 100, color: bool = False
) -> str:
    """A table, then how its losses went and how it is to be read.

    Args:
        lines: as `Reproduction.run` returns them.
        parameters: of the stand-in's base; None where the models themselves ran.
        width: of the notes; the table is as wide as it is.
        color: has no meaning here; every renderer takes it.
    """
    rows = [HEAD, *map(_cells, lines)]
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.ljust(size) for cell, size in zip(row, wide, strict=True)).rstrip() for row in rows]
    told = [textwrap.fill(plain(note), width, subsequent_indent="  ") for note in _notes(lines, parameters)]
    return "\n".join([*table, "", *told, ""])


def _cells(line: Mapping[str, Any]) -> tuple[str, ...]:
    missing = "stopped" if "stopped" in line else "not run"
    ours = [_share(line[score]) if score in line else missing for score in ("exact", "lenient")]
    return line["system"], line["prompt"], _share(line["article"]), *ours


def _notes(lines: Sequence[Mapping[str, Any]], parameters: int | None) -> Iterator[str]:
    for line in lines:
        title = f"{line['system']}, prompt {line['prompt']}"
        if course := line.get("training"):
            losses = ", ".join(f"{course[f'{key}_loss']:.4g} {key}" for key in ("first", "highest", "last"))
            yield f"{title}: {course['steps']:,} steps in {course['seconds']:,.0f} s; loss {losses}"
        if "stopped" in line:
            yield f"{title}: stopped: {line['stopped']}"
    yield from (
        f"not run: {reason}" for reason in dict.fromkeys(line["not_run"] for line in lines if "not_run" in line)
    )
    yield from (f"note: {note}" for note in NOTES)
    if parameters is not None:
        yield (
            f"note: ours is a stand-in of {parameters / 1e6:.1f} M parameters that names drawn animals: what the "
            "systems do there, and no figure of the article's models; one base stands for Gemma 3 and for Gemma 4"
        )
    if few := {line["samples"] for line in lines} - {None}:
        yield f"note: {min(few):,} samples were asked for, not the whole splits: a trial"


def _share(share: Mapping[str, Any]) -> str:
    low, high = share["interval"]
    return f"{share['accuracy']:.1%} of {share['n']:,} ({low:.1%} to {high:.1%})"
