"""Where a row says something else than its conversation: which ids, at which positions, what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np

from vlcheck.collators.region_kinds import Region
from vlcheck.collators.regions import TokenMap

TAIL = 6
"""Ids at a row's end that must stand in the conversation for the row to have been cut there."""


@dataclass(frozen=True)
class Difference:
    """One stretch of a row that ought to read otherwise."""

    at: int
    """Position of its first id in the row, padding counted."""
    ids: tuple[int, ...]
    said: str
    wanted_ids: tuple[int, ...]
    wanted: str
    more: int
    """Other stretches that differ."""


def is_cut(row: Sequence[int], expected: Sequence[int], token_map: TokenMap) -> bool:
    """Whether a row ends where its conversation goes on: inside an answer, an image or the prompt.

    See `begins_late` for rows that were cut on their left.

    Args:
        row: ids without padding.
        expected: ids that the processor makes of the conversation.
    """
    said, wanted = _words(row, token_map), _words(expected, token_map)
    tail = said[-TAIL:]
    if not tail:
        return bool(wanted)
    ends = [end for end in range(len(tail), len(wanted)) if wanted[end - len(tail) : end] == tail]
    return bool(ends) and wanted[-len(tail) :] != tail


def begins_late(row: Sequence[int], expected: Sequence[int], token_map: TokenMap) -> bool:
    """Whether a row begins in the middle of one of its conversation's turns, and holds the rest of it.

    A row that begins with a special token or a question's header lost whole turns: it was not cut.

    Args:
        row: ids without padding.
        expected: ids that the processor makes of the conversation.
    """
    spared = {*token_map.image_ids, token_map.tokenizer.bos_token_id}
    said = [number for number in row if number not in spared]
    wanted = [number for number in expected if number not in spared]
    if not said or len(said) >= len(wanted) or said[0] in token_map.tokenizer.added_tokens_decoder:
        return False
    if token_map.asking and token_map.text_of(said).lstrip().startswith(token_map.asking):
        return False
    return any(wanted[at : at + len(said)] == said for at in range(1, len(wanted) - len(said) + 1))


def difference(
    row: Sequence[int], start: int, expected: Sequence[int], regions: np.ndarray, token_map: TokenMap
) -> Difference | None:
    """The first stretch in which a row's answers differ from what they ought to be; None if they do not.

    Args:
        row: ids without padding.
        start: position of the first of them in the batch.
        expected: ids that the processor makes of the conversation.
        regions: of `expected`, (T,) of `Region`.
        token_map: from `map_tokens`.
    """
    said, wanted = _words(row, token_map), _words(expected, token_map)
    places = [at for at, number in enumerate(row) if number not in token_map.image_ids]
    answers = [kind in (Region.ANSWER, Region.END) for number, kind in zip(expected, regions, strict=True)
               if number not in token_map.image_ids]  # fmt: skip
    changes = [
        (a, b, c, d)
        for kind, a, b, c, d in SequenceMatcher(None, said, wanted, autojunk=False).get_opcodes()
        if kind != "equal" and any(answers[c : max(d, c + 1)])
    ]
    if not changes:
        return None
    a, b, c, d = changes[0]
    return Difference(
        start + (places[a] if a < len(places) else len(row)),
        tuple(said[a:b]),
        token_map.text_of(said[a:b]),
        tuple(wanted[c:d]),
        token_map.text_of(wanted[c:d]),
        len(changes) - 1,
    )


def _words(ids: Sequence[int], token_map: TokenMap) -> list[int]:
    """Ids that are no image's: how many soft tokens an image has is judged elsewhere."""
    return [number for number in ids if number not in token_map.image_ids]
