"""Config texts that differ from a basic one in a few lines."""

from __future__ import annotations


def over(basic: str, text: str) -> str:
    """The text below the basic one's lines; a line of those gives way to one of the same key."""
    return "\n".join(
        [*(line for line in basic.splitlines() if f"\n{line.partition(':')[0]}:" not in f"\n{text}"), text]
    )
