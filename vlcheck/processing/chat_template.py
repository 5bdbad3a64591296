"""Conversations as text: what a chat template writes, and where the answers stand in it.

Training and evaluation read the same rendering. An answer is put behind the *generation prompt*, the text that
the model will see when it is asked, so that both prompts are equal id for id. Where a whole conversation
renders to exactly these pieces it is one row; where it does not (the generation prompt of the large Gemma 4
models opens an empty thought that no rendered turn has), every answer is a row of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from vlcheck.data.conversation import BadRow, Conversation, Picture, Turn, as_messages
from vlcheck.model.family import Dialogue

QUESTION, ANSWER = "Quiz", "Beagle"


@dataclass(frozen=True)
class Opening:
    """What a template writes around an answer, read off by rendering one."""

    anchor: str
    """What begins an assistant's header: a special token, or the whole header where it holds none."""
    special: bool
    """Whether the anchor is a special token."""
    lead: str
    """What a rendered answer has between header and text, a space in LLaVA-1.5; often nothing."""
    primer: str
    """What the generation prompt opens beyond a rendered turn's header; empty where it is that header."""
    bos: str
    """The first token of a text, where the template writes it itself."""


@dataclass(frozen=True)
class AnswerPlace:
    """Where an answer stands in a row, counted in marks that images cannot move."""

    at: int
    """Characters of the row's text before the header."""
    header: str
    """What introduces the answer, from the anchor on: `<|turn>model` and a newline."""
    rank: int
    """Anchors in the row's text before its own."""
    ends: int
    """End tokens inside the answer's own text."""
    answer: str
    """What must be decoded from the supervised ids, the end token aside."""
    turn: int
    """Index of the turn in the conversation."""


@dataclass(frozen=True)
class RowText:
    """One row of a batch before tokenisation."""

    name: str
    text: str
    pictures: tuple[Picture, ...]
    places: tuple[AnswerPlace, ...]
    suffix: str | None = None
    """The answer, for processors that take it apart from the question."""


@dataclass(frozen=True)
class Template:
    """A processor's chat template, with the family's thinking block and end token."""

    processor: Any
    dialogue: Dialogue
    opening: Opening

    def rows(self, conversation: Conversation) -> tuple[RowText, ...]:
        """The rows that train a conversation: one, or one an answer.

        Raises:
            BadRow: if the family or its template cannot express the conversation.
        """
        if self.dialogue.suffix:
            return (_suffixed(self.processor, self.dialogue, conversation),)
        rows = [self._answered(conversation, index) for index in conversation.answers]
        last = rows[-1]
        thinks = any(turn.thinking for turn in conversation.turns)
        if len(rows) == 1:
            return (last,)
        if self.opening.special and not thinks and all(last.text.startswith(row.text) for row in rows):
            return (replace(last, places=tuple(row.places[0] for row in rows)),)
        return tuple(replace(row, name=f"{row.name}, turn {row.places[0].turn}") for row in rows)

    def prompt(self, conversation: Conversation, turn: int) -> RowText:
        """What the model is given so that it answers as this turn: the training row up to the answer.

        Raises:
            BadRow: as `rows`.
        """
        if self.dialogue.suffix:
            return replace(_suffixed(self.processor, self.dialogue, conversation), suffix=None, places=())
        history = conversation.turns[:turn]
        return RowText(str(conversation), self._generation(conversation, turn), _pictures(history), ())

    def render(self, turns: Sequence[Turn], *, prompt: bool, thinking: bool = False) -> str:
        """Turns as the template writes them; with `prompt`, up to where an answer begins."""
        return _render(self.processor, turns, prompt=prompt, thinking=thinking)

    def _answered(self, conversation: Conversation, index: int) -> RowText:
        turn, end, anchor = conversation.turns[index], self.dialogue.end, self.opening.anchor
        generation = self._generation(conversation, index)
        answer = self.opening.lead + self._thought(conversation, index, generation) + turn.text.strip()
        at = generation.rfind(anchor)
        if at < 0:
            raise BadRow(f"{conversation}, turn {index}: its generation prompt has no {anchor!r}")
        place = AnswerPlace(at, generation[at:], generation.count(anchor, 0, at), answer.count(end), answer, index)
        return RowText(str(conversation), generation + answer + end, _pictures(conversation.turns[:index]), (place,))

    def _thought(self, conversation: Conversation, index: int, generation: str) -> str:
        thinking = conversation.turns[index].thinking.strip()
        if not thinking:
            return ""
        if self.dialogue.thought is None:
            raise BadRow(f"{conversation}, turn {index}: it has a thinking block, and this family's turns have none")
        opens, closes = self.dialogue.thought
        return ("" if generation.endswith(opens) else opens) + thinking + closes

    def _generation(self, conversation: Conversation, index: int) -> str:
        thinking, history = bool(conversation.turns[index].thinking), conversation.turns[:index]
        try:
            made = self.render(history, prompt=True, thinking=thinking)
        except Exception as error:  # a template raises whatever it likes
            raise BadRow(f"{conversation}: the chat template refuses it: {error}") from error
        for number, turn in enumerate(history):
            words = [part.strip() for part in turn.content if isinstance(part, str)] if turn.role != "assistant" else []
            if lost := [part for part in words if part not in made]:  # a tool's in Gemma 4, without the call before it
                raise BadRow(
                    f"{conversation}, turn {number}: the chat template does not write this {turn.role}'s words: "
                    f"{lost[0][:80]!r}"
                )
        return made


def read_template(processor: Any, dialogue: Dialogue) -> Template:
    """Find out what a processor's template writes around an answer.

    Args:
        processor: anything with `apply_chat_template`, `chat_template` and a fast `tokenizer`.
        dialogue: the family's; its `end` ends every answer, whatever the template writes there.

    Raises:
        BadRow: if there is no template, or it cannot render a question and its answer.
    """
    tokenizer = processor.tokenizer
    if tokenizer.convert_tokens_to_ids(dialogue.end) in (None, tokenizer.unk_token_id):
        raise BadRow(f"the tokenizer has no token {dialogue.end!r}, which ends this family's turns")
    if dialogue.suffix:
        return Template(processor, dialogue, Opening("", False, "", "", ""))
    if not getattr(processor, "chat_template", None):
        raise BadRow("the processor has no chat template")
    question, answer = Turn("user", (QUESTION,)), Turn("assistant", (ANSWER,))
    try:
        asked = _render(processor, (question,), prompt=False)
        generation = _render(processor, (question,), prompt=True)
        rendered = _render(processor, (question, answer), prompt=False)
        before, tail = rendered[: rendered.rindex(ANSWER)], generation[generation.rindex(QUESTION) + len(QUESTION) :]
    except Exception as error:  # a template raises whatever it likes
        raise BadRow(f"the chat template cannot render a question and its answer: {error}") from error
    added = generation[len(asked) :] if generation.startswith(asked) else tail
    anchor = _first(added, tokenizer) or _last(tail, tokenizer)
    bos = tokenizer.bos_token or ""
    return Template(
        processor,
        dialogue,
        Opening(
            anchor=anchor or tail.lstrip(),
            special=bool(anchor),
            lead=before[len(generation) :] if before.startswith(generation) else "",
            primer="" if before.startswith(generation) else generation[_alike(generation, before) :],
            bos=bos if bos and generation.startswith(bos) else "",
        ),
    )


@functools.lru_cache(maxsize=8)
def special_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Added tokens that no ordinary text is cut into; white space that Gemma adds as tokens is not among them."""
    added = (token.content for token in tokenizer.added_tokens_decoder.values())
    return tuple(sorted((content for content in added if not content.isspace()), key=len, reverse=True))


def _render(processor: Any, turns: Sequence[Turn], *, prompt: bool, thinking: bool = False) -> str:
    switch = {"enable_thinking": thinking} if "enable_thinking" in str(processor.chat_template) else {}
    text: str = processor.apply_chat_template(
        as_messages(turns), tokenize=False, add_generation_prompt=prompt, **switch
    )
    return text


def _suffixed(processor: Any, dialogue: Dialogue, conversation: Conversation) -> RowText:
    """Question and answer apart, as PaliGemma's processor takes them."""
    roles = [turn.role for turn in conversation.turns]
    if roles != ["user", "assistant"]:
        raise BadRow(f"{conversation}: turns are {', '.join(roles)}; this family takes one question and one answer")
    question, answer = conversation.turns
    if answer.thinking:
        raise BadRow(f"{conversation}, turn 1: it has a thinking block, and this family's turns have none")
    if not question.pictures:  # the processor would write its <bos> into the middle of the question
        raise BadRow(f"{conversation}: it holds no image; this family takes at least one")
    image, said = processor.image_token, answer.text.strip()
    text = image * len(question.pictures) + question.text
    place = AnswerPlace(0, "", 0, said.count(dialogue.end), said, 1)
    return RowText(str(conversation), text, question.pictures, (place,), suffix=said)


def _pictures(turns: Sequence[Turn]) -> tuple[Picture, ...]:
    return tuple(picture for turn in turns for picture in turn.pictures)


def _first(text: str, tokenizer: Any) -> str:
    """The special token that comes first in a text; empty where there is none."""
    return min((token for token in special_tokens(tokenizer) if token in text), key=text.find, default="")


def _last(text: str, tokenizer: Any) -> str:
    return max((token for token in special_tokens(tokenizer) if token in text), key=text.rfind, default="")


def _alike(one: str, other: str) -> int:
    """How many characters two texts have in common at their start."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
