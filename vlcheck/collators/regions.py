"""What each id of a row is, found out from the conversation alone: no collator is asked.

The ids are turned back into bytes, id by id, and the answers are searched in them from the end. The law that
labels are held against: the supervised ids are the answers with their end tokens, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from transformers.convert_slow_tokenizer import bytes_to_unicode

from vlcheck.collators.region_kinds import Region
from vlcheck.data.conversation import Conversation, Turn
from vlcheck.processing.chat_template import Template, special_tokens


@dataclass(frozen=True)
class Regions:
    """The ids of one row by what they stand for."""

    of: np.ndarray
    """(T,) of `Region`."""
    found: int
    """Answers that are among the ids."""
    ended: int
    """Of these, answers that an end token follows."""
    starts: tuple[int, ...]
    """Index of each answer's first id, in the order of the turns; empty if an answer is missing."""

    def law(self) -> np.ndarray:
        """Which ids ought to be supervised."""
        wanted: np.ndarray = (self.of == Region.ANSWER) | (self.of == Region.END)
        return wanted


@dataclass(frozen=True)
class TokenMap:
    """A tokenizer as it has to be known to read ids back."""

    template: Template
    image_ids: frozenset[int]
    """Soft tokens and what frames them."""
    soft_id: int
    byte_level: bool
    end: bytes
    """The token that ends an answer."""
    header: bytes
    """What a generation prompt puts before an answer, from the turn marker on; empty without a template."""
    asking: str = ""
    """What a template puts before a first question, its begin-of-text token aside."""
    _bytes: dict[int, bytes] = field(default_factory=dict, repr=False, compare=False)

    @property
    def tokenizer(self) -> Any:
        """The processor's."""
        return self.template.processor.tokenizer

    def normal(self, text: str) -> str:
        """A text as the tokenizer changes it before it cuts: composed characters, in Qwen's."""
        normalizer = self.tokenizer.backend_tokenizer.normalizer
        if normalizer is None:
            return text
        changed: str = normalizer.normalize_str(text).replace("\u2581", " ")
        return changed[1:] if changed.startswith(" ") and not text.startswith(" ") else changed

    def bytes_of(self, number: int) -> bytes:
        """The bytes that an id puts into a text."""
        if number not in self._bytes:
            self._bytes[number] = self._read(number)
        return self._bytes[number]

    def text_of(self, ids: Sequence[int]) -> str:
        """What ids say; those that no tokenizer knows say nothing."""
        known = [number for number in ids if self.bytes_of(number)]
        said: str = self.tokenizer.decode(known)
        return said

    def _read(self, number: int) -> bytes:
        if not 0 <= number < _IDS:
            return b""
        token = self.tokenizer.convert_ids_to_tokens(number)
        if token is None:
            return b""
        if number in self.tokenizer.added_tokens_decoder:
            return str(token).encode("utf-8", "replace")
        if self.byte_level:
            return bytes(_BYTES[sign] for sign in token) if all(sign in _BYTES for sign in token) else token.encode()
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            return bytes([int(token[3:5], 16)])
        return str(token).replace("\u2581", " ").encode("utf-8", "replace")


_IDS = 2**31
"""Ids at or above this are none that a tokenizer can be asked for."""

_BYTES: Mapping[str, int] = {sign: byte for byte, sign in bytes_to_unicode().items()}


def map_tokens(template: Template) -> TokenMap:
    """The token map of a processor and its family."""
    tokenizer, dialogue = template.processor.tokenizer, template.dialogue
    numbers = [tokenizer.convert_tokens_to_ids(token) for token in dialogue.image_tokens]
    pieces = tokenizer.convert_ids_to_tokens(tokenizer(" a b", add_special_tokens=False)["input_ids"])
    return TokenMap(
        template,
        frozenset(number for number in numbers if number not in (None, tokenizer.unk_token_id)),
        numbers[0],
        byte_level=any("\u0120" in piece for piece in pieces),
        end=dialogue.end.encode(),
        header=_introduction(template),
        asking=_asking(template),
    )


def _introduction(template: Template) -> bytes:
    if template.dialogue.suffix:
        return b""
    asked = template.render((Turn("user", ("?",)),), prompt=True)
    return asked[max(0, asked.rfind(template.opening.anchor)) :].encode()


def _asking(template: Template) -> str:
    if template.dialogue.suffix:
        return ""
    asked = template.render((Turn("user", ("?",)),), prompt=False)
    return asked[: asked.rfind("?")].removeprefix(template.opening.bos).strip()


def divide(
    ids: Sequence[int], real: Sequence[bool], conversation: Conversation, turns: Sequence[int], token_map: TokenMap
) -> Regions:
    """Tell what each id of a row stands for.

    Args:
        ids: the row, images expanded.
        real: where the row is not padding.
        conversation: what the row holds.
        turns: which of its turns are answers of this row.
        token_map: from `map_tokens`.
    """
    pieces = [token_map.bytes_of(number) if is_real else b"" for number, is_real in zip(ids, real, strict=True)]
    stops = np.cumsum([len(piece) for piece in pieces])
    starts = np.concatenate(([0], stops[:-1]))
    text = b"".join(pieces)
    of = np.full(len(ids), Region.PROMPT, dtype=np.int8)
    of[[number in token_map.image_ids for number in ids]] = Region.IMAGE
    of[~np.asarray(real, dtype=bool)] = Region.PADDING
    written = (of == Region.PROMPT) & (stops > starts)
    found = _answers(text, conversation, turns, token_map)
    for number, (at, stop, last) in enumerate(found):
        header, introduced = _header(text, at, token_map)
        of[written & (starts >= header) & (stops <= introduced)] = Region.HEADER
        between = _kind(text[introduced:at], token_map)
        of[written & (starts >= introduced) & (stops <= at)] = between
        of[(stops > starts) & (stops > at) & (starts < stop)] = Region.ANSWER  # it may name an image's frame
        of[written & (starts >= stop) & (starts < last)] = Region.SPACE
        ending = written & (starts >= last - len(token_map.end)) & (starts < last)
        of[ending & (starts >= stop)] = Region.END
        if number == 0 and turns[-1] == conversation.answers[-1]:
            of[written & (starts >= last)] = _trailing(text[last:], token_map)
        behind = int(np.searchsorted(stops, last, side="right"))
        while behind < len(ids) and of[behind] == Region.PROMPT and written[behind] and pieces[behind].isspace():
            of[behind] = Region.AFTER
            behind += 1
    firsts = [int(np.searchsorted(stops, at, side="right")) for at, _, _ in reversed(found)]
    ended = sum(last > stop for _, stop, last in found)
    return Regions(of, len(found), ended, tuple(firsts) if len(found) == len(turns) else ())


def _answers(
    text: bytes, conversation: Conversation, turns: Sequence[int], token_map: TokenMap
) -> list[tuple[int, int, int]]:
    """First byte, byte past the last, and byte past the end token, if there is one: of each answer, last first."""
    places: list[tuple[int, int, int]] = []
    bound, later = len(text), len(conversation.turns)
    if tuple(turns) != conversation.answers:  # one of several rows of a conversation, which ends with its answer
        later = turns[-1] + 1
    for turn in reversed(turns):
        answer = _said(conversation.turns[turn], token_map)
        skip = len(_ended(_asked(conversation, turn, later, token_map), answer, token_map.end))
        ended = [(at, stop) for at, stop in _ended(text, answer, token_map.end) if stop <= bound]
        if len(ended) > skip:
            at, stop = ended[-1 - skip]
            lead = token_map.template.opening.lead.encode()
            before = len(lead) if text[:at].endswith(lead) else 0
            places.append((at - before, at + len(answer), stop))
        elif turn == turns[-1] and answer and text.rstrip().endswith(answer):
            at = len(text.rstrip()) - len(answer)  # a template that ends its answers with nothing
            places.append((at, at + len(answer), at + len(answer)))
        else:
            continue
        bound, later = places[-1][0], turn
    return places


def _ended(text: bytes, answer: bytes, end: bytes) -> list[tuple[int, int]]:
    """Where an answer and its end token stand in a text, white space between them or not."""
    between = rb"\s*" if answer else b""
    pattern = re.compile(b"(?=(" + re.escape(answer) + between + re.escape(end) + b"))")
    return [match.span(1) for match in pattern.finditer(text)]


def _asked(conversation: Conversation, turn: int, later: int, token_map: TokenMap) -> bytes:
    """What a template writes between an answer and the next, where it may say the same once more."""
    turns = conversation.turns
    if not any(between.role == "user" for between in turns[turn + 1 : later]):
        return b""
    before = token_map.template.render(turns[: turn + 1], prompt=False)
    whole = token_map.template.render(turns[:later], prompt=False)
    return token_map.normal(whole[len(before) :]).encode("utf-8", "replace") if whole.startswith(before) else b""


def _said(turn: Turn, token_map: TokenMap) -> bytes:
    """What an answer is in bytes, its thinking before it."""
    opens, closes = token_map.template.dialogue.thought or ("", "")
    thought = opens + turn.thinking.strip() + closes if turn.thinking.strip() else ""
    return token_map.normal(thought + turn.text.strip()).encode("utf-8", "replace")


def _header(text: bytes, answer: int, token_map: TokenMap) -> tuple[int, int]:
    """Where the turn marker before an answer begins, and where the template's header ends.

    Both are the answer's own place if there is no marker close by.
    """
    anchor = token_map.template.opening.anchor.encode()
    at = text.rfind(anchor, 0, answer) if anchor else -1
    if at < 0 or token_map.end in text[at + len(anchor) : answer]:
        return answer, answer
    between, header = text[at:answer], token_map.header
    alike = next((n for n, (a, b) in enumerate(zip(between, header, strict=False)) if a != b), None)
    return at, at + (min(len(between), len(header)) if alike is None else alike)


def _kind(between: bytes, token_map: TokenMap) -> Region:
    """What stands between a header and an answer: white space, an empty thought, or foreign text."""
    if not between.strip():
        return Region.SPACE
    for marker in (*(token_map.template.dialogue.thought or ()), "<think>", "</think>"):
        between = between.replace(marker.encode(), b"")
    return Region.FOREIGN if between.strip() else Region.HEADER


def _trailing(behind: bytes, token_map: TokenMap) -> Region:
    """What stands behind a row's last answer: line ends, special tokens, a generation prompt, or foreign text."""
    left = behind.replace(token_map.header.strip(), b"")
    for token in special_tokens(token_map.tokenizer):
        left = left.replace(token.encode(), b"") if left.strip() else left
    return Region.FOREIGN if left.strip() else Region.AFTER
