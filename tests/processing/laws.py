"""What holds of a sound collator whatever it is given, each law one sentence.

The oracle is the conversation: supervised ids, decoded, must be its answers. Nothing here asks the collator where
an answer is. A law takes a setting and what Hypothesis drew; `strategy` says what that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests import strategies
from tests.model.families.settings import Setting
from vlcheck.collators.probes import Probe
from vlcheck.collators.region_kinds import Region
from vlcheck.collators.regions import map_tokens
from vlcheck.collators.rows import Subject, check_row
from vlcheck.data.conversation import BadRow, Conversation, Picture, Turn
from vlcheck.processing.labels import IGNORE_INDEX

Ids = list[int]


@dataclass(frozen=True)
class Law:
    """A sentence, what it is about, and how it is looked at."""

    name: str
    sentence: str
    strategy: Callable[[Setting], SearchStrategy[Any]]
    check: Callable[[Setting, Any], None]


LAWS: list[Law] = []


def law(strategy: Callable[[Setting], SearchStrategy[Any]]) -> Callable[[Callable[[Setting, Any], None]], Law]:
    """Register a law; its docstring is its sentence."""

    def registered(check: Callable[[Setting, Any], None]) -> Law:
        made = Law(check.__name__, check.__doc__ or "", strategy, check)
        LAWS.append(made)
        return made

    return registered


def one(setting: Setting) -> SearchStrategy[Conversation]:
    """A conversation that the setting's family can hold."""
    return strategies.conversations(
        setting.markers,
        single=setting.dialogue.suffix,
        thinks=setting.dialogue.thought is not None,
        system_with_images=setting.system_with_images,
    )


def batch(setting: Setting) -> SearchStrategy[Any]:
    """A few of them and a padding side."""
    return st.tuples(strategies.batches(one(setting)), strategies.sides())


@law(batch)
def supervised_ids_are_exactly_the_answers(setting: Setting, drawn: Any) -> None:
    """Supervised ids, decoded, are the answers in their order, each with its end token and nothing else."""
    rows, side = drawn
    assume(sayable(setting, rows))
    made = setting.collate(padding_side=side)(rows)

    found = [decoded(setting, ids) for row in supervised(made) for ids in row]
    assert [text.removeprefix(" ") for text in found] == [each for row in rows for each in expected(setting, row)]
    held = made["labels"] != IGNORE_INDEX
    assert torch.equal(made["labels"][held], made["input_ids"][held])
    assert not (held & (made["attention_mask"] == 0)).any()


@law(lambda setting: st.tuples(one(setting), st.lists(strategies.pictures(), min_size=6, max_size=6),
                               st.sampled_from(setting.budgets or (0,))))  # fmt: skip
def growing_an_image_moves_no_label(setting: Setting, drawn: Any) -> None:
    """Other image sizes and another budget of soft tokens leave the supervised ids as they are."""
    row, others, budget = drawn
    assume(sayable(setting, [row]))
    before = supervised(setting.collate()([row]))
    if budget:
        setting.dialogue.budget(setting.processor, budget)
    try:
        after = supervised(setting.collate()([repainted(row, others)]))
    finally:
        if budget:
            setting.dialogue.budget(setting.processor, setting.budgets[0])

    assert after == before


@law(batch)
def batching_and_padding_side_change_nothing(setting: Setting, drawn: Any) -> None:
    """A row in a batch, padding taken off, is the row alone, in every key that has an entry a token."""
    rows, side = drawn
    assume(sayable(setting, rows))
    together = unpadded(setting.collate(padding_side=side)(rows))

    assert together == [each for row in rows for each in unpadded(setting.collate()([row]))]


@law(lambda setting: st.tuples(one(setting), st.sampled_from(setting.markers), st.integers(0, 5)))
def a_marker_inside_user_text_changes_nothing(setting: Setting, drawn: Any) -> None:
    """A family's own marker, written by a user, leaves the supervised ids as they are."""
    row, marker, at = drawn
    marked = with_marker(row, marker, at)
    assume(sayable(setting, [row, marked]))

    assert supervised(setting.collate()([marked])) == supervised(setting.collate()([row]))


@law(lambda setting: st.tuples(strategies.batches(one(setting)), st.integers(-8, 8), st.integers(0, 2)))
def truncation_never_leaves_part_of_an_answer(setting: Setting, drawn: Any) -> None:
    """A row longer than the limit is refused with both lengths, or dropped whole and counted; others stay."""
    rows, more, at = drawn
    assume(sayable(setting, rows))
    whole = unpadded(setting.collate()(rows))
    lengths = [len(row["input_ids"]) for row in whole]
    limit = max(1, sorted(lengths)[min(at, len(lengths) - 1)] + more)
    short = [row for row in whole if len(row["input_ids"]) <= limit]

    loud = refusal(lambda: setting.collate(max_length=limit)(rows))
    assert (loud == "") == (len(short) == len(whole))
    assert not loud or (f"at most {limit}" in loud and any(f"{n} tokens" in loud for n in lengths if n > limit))
    if short:
        kept = setting.collate(max_length=limit, overflow="drop").collate(rows)
        assert unpadded(kept.batch) == short
        assert [row.tokens for row in kept.dropped] == [n for n in lengths if n > limit]
    else:
        assert refusal(lambda: setting.collate(max_length=limit, overflow="drop")(rows))


@law(one)
def training_prompt_is_the_evaluation_prompt(setting: Setting, row: Conversation) -> None:
    """What a model is asked with is, id for id, what stood before the answer when it was trained."""
    assume(sayable(setting, [row]))
    collator = setting.collate()
    trained = unpadded(collator([row]))
    before = [row["input_ids"][:at] for row in trained for at in starts(row["labels"])]
    asked = unpadded(collator.prompts([row] * len(row.answers), row.answers))

    assert [prompt["input_ids"] for prompt in asked] == before


@law(batch)
def every_key_reaches_the_batch(setting: Setting, drawn: Any) -> None:
    """A batch with an image has every key of the family, and a type for each soft token and for no other id."""
    rows, side = drawn
    assume(sayable(setting, rows) and any(row.pictures for row in rows))
    made = setting.collate(padding_side=side)(rows)

    assert set(setting.dialogue.batch_keys) <= made.keys()
    soft = setting.processor.tokenizer.convert_tokens_to_ids(setting.dialogue.image_tokens[0])
    types = made.get("mm_token_type_ids", None if setting.dialogue.suffix else made.get("token_type_ids"))
    assert types is None or torch.equal(types == 1, made["input_ids"] == soft)


@law(one)
def the_oracle_of_the_rules_raises_no_alarm(setting: Setting, row: Conversation) -> None:
    """Held against the conversation as the label rules do it, every row of a sound batch is lawful."""
    assume(sayable(setting, [row]))
    collator = setting.collate()
    made, token_map = collator.collate([row]), map_tokens(collator.template)

    for number, text in enumerate(made.rows):
        turns = tuple(place.turn for place in text.places)
        seen = check_row(Subject(Probe("data", row), turns, 0), made.batch, number, collator, token_map)
        assert seen.correct, seen
        assert not seen.supervised[Region.HEADER] + seen.supervised[Region.AFTER], seen
        assert (seen.gap, seen.moved, seen.foreign_labels) == (0, 0, 0), seen


def expected(setting: Setting, row: Conversation) -> list[str]:
    """What each supervised stretch of a row must read."""
    opens, closes = setting.dialogue.thought or ("", "")
    thoughts = [opens + turn.thinking.strip() + closes if turn.thinking.strip() else "" for turn in row.turns]
    return [setting.text(thoughts[at] + row.turns[at].text.strip() + setting.dialogue.end) for at in row.answers]


def supervised(made: Any) -> list[list[Ids]]:
    """The supervised stretches of every row."""
    return [
        [[number for number, _ in stretch] for held, stretch in groupby(pairs, key=lambda pair: pair[1]) if held]
        for row in unpadded(made)
        for pairs in [[(number, number != IGNORE_INDEX) for number in row["labels"]]]
    ]


def starts(labels: Ids) -> Iterator[int]:
    """Where the supervised stretches of a row begin."""
    held = [number != IGNORE_INDEX for number in labels]
    return (at for at, now in enumerate(held) if now and not (at and held[at - 1]))


def unpadded(made: Any) -> list[dict[str, Ids]]:
    """Every row's own tokens, in every key that has an entry a token."""
    mask = made["attention_mask"].bool()
    keys = [key for key, value in made.items() if value.shape == mask.shape]
    return [{key: made[key][row][mask[row]].tolist() for key in keys} for row in range(len(mask))]


def decoded(setting: Setting, ids: Ids) -> str:
    text: str = setting.processor.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    return text


def sayable(setting: Setting, rows: Sequence[Conversation]) -> bool:
    """Whether no text holds, even across its parts, what stands for an image."""
    said = ("".join(part for turn in row.turns for part in (turn.text, turn.thinking)) for row in rows)
    return not any(token in text for text in said for token in setting.reserved)


def refusal(call: Callable[[], Any]) -> str:
    """Why a row was refused; empty where none was."""
    try:
        call()
    except BadRow as bad:
        return str(bad)
    return ""


def repainted(row: Conversation, others: Sequence[Picture]) -> Conversation:
    """The same conversation about other pictures."""
    left = iter(others * 2)
    turns = (
        replace(turn, content=tuple(next(left) if isinstance(part, Picture) else part for part in turn.content))
        for turn in row.turns
    )
    return replace(row, turns=tuple(turns))


def with_marker(row: Conversation, marker: str, at: int) -> Conversation:
    """The same conversation, a marker in the middle of its first question."""
    first = next(index for index, turn in enumerate(row.turns) if turn.role == "user")
    content = list(row.turns[first].content)
    content.insert(min(at, len(content)), f"a {marker} b")
    asked: Turn = replace(row.turns[first], content=tuple(content))
    return replace(row, turns=(*row.turns[:first], asked, *row.turns[first + 1 :]))
