"""The conversation that a row of ids holds, read back from the ids alone: for batches whose rows nobody knows.

Turns are told apart by what the template writes around an answer. What is recovered says which ids ought to be
supervised; whether the row says what its data says cannot be known from it.
"""

from __future__ import annotations

from collections.abc import Sequence

from vlcheck.collators.regions import TokenMap
from vlcheck.data.conversation import Conversation, Turn
from vlcheck.processing.chat_template import special_tokens


def recovered(ids: Sequence[int], token_map: TokenMap, name: str) -> Conversation | None:
    """The turns of a row without padding; None where no assistant's header and answer are found.

    Args:
        ids: images expanded.
    """
    text = b"".join(token_map.bytes_of(number) for number in ids if number not in token_map.image_ids)
    header = token_map.template.opening.anchor.encode() and token_map.header.rstrip()
    if not header:
        return None
    turns: list[Turn] = []
    before, *answered = text.split(header)
    for piece in answered:
        answer, ended, behind = piece.partition(token_map.end)
        if not ended and piece is not answered[-1]:
            continue
        said = _words(answer, token_map)
        if said:
            turns += [Turn("user", (_words(before, token_map) or "?",)), Turn("assistant", (said,))]
        before = behind
    return Conversation(tuple(turns), name) if turns else None


def _words(text: bytes, token_map: TokenMap) -> str:
    """What a text says beside its special tokens."""
    said = text.decode("utf-8", "replace")
    for token in special_tokens(token_map.tokenizer):
        said = said.replace(token, "")
    return said.strip()
