"""Rows that somebody holds in Python: conversations, or the mappings of a table that has no columns of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from vlcheck.data.conversation import BadRow, Conversation, Turn
from vlcheck.data.sources.images import picture_of
from vlcheck.data.sources.messages import message_row

QUESTION = "What is in the picture?"
"""Asked of an image that comes with an answer alone."""


def as_conversations(rows: Iterable[Conversation | Mapping[str, Any]]) -> tuple[Conversation, ...]:
    """Rows as conversations.

    Args:
        rows: `Conversation`s, or mappings with `messages` and perhaps `images`, with `prompt` and `completion` as lists
            of messages, or with `image` and `label` (or `answer`) and perhaps `question`.

    Raises:
        ValueError: at the first row that is none of these; the message names it and the keys that it has.
    """
    return tuple(_conversation(row, f"row {number}") for number, row in enumerate(rows))


def _conversation(row: Any, name: str) -> Conversation:
    if isinstance(row, Conversation):
        contents = [(turn.content,) if isinstance(turn.content, str) else tuple(turn.content) for turn in row.turns]
        turns = (replace(turn, content=own) for turn, own in zip(row.turns, contents, strict=True))
        return replace(row, turns=tuple(turns))  # lists do where the types ask for tuples
    if not isinstance(row, Mapping):
        raise ValueError(f"{name} is {type(row).__name__}; allowed: a vlcheck.Conversation or a mapping")
    values = dict(row)
    if isinstance(values.get("prompt"), list) and isinstance(values.get("completion"), list):
        values["messages"] = [*values["prompt"], *values["completion"]]
    try:
        if values.get("messages") is not None:
            return message_row(values, split="train", name=name, folder=None).conversation
        answer = values.get("label", values.get("answer"))
        if values.get("image") is not None and isinstance(answer, str):
            asked = Turn("user", (picture_of(values["image"], None, name), str(values.get("question") or QUESTION)))
            return Conversation((asked, Turn("assistant", (answer,))), name)
    except BadRow as bad:
        raise ValueError(f"{name}: {bad}") from bad
    raise ValueError(
        f"{name} has {', '.join(map(str, values)) or 'no keys'}; allowed: messages, prompt and completion, or image "
        "and label (as text)"
    )
