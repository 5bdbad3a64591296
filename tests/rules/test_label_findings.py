"""What the label rules say of rows that are written out: which they show, what they count, what they leave alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from vlcheck.collators.difference import Difference
from vlcheck.collators.judge import CollatorChecks
from vlcheck.collators.region_kinds import Region
from vlcheck.collators.rows import RowCheck
from vlcheck.finding import Examined, Finding, NotApplicable, Unavailable
from vlcheck.rules import labels, spans, wording
from vlcheck.spec import Data, Lora, ModelRef, RunSpec, Training

ANSWERS = {Region.ANSWER: 4, Region.END: 1}


def row(name="row", *, present=(), supervised=(), **other):
    """A sound row of twenty ids, changed where it is said."""
    held = dict.fromkeys(Region, 0) | ANSWERS | {Region.PROMPT: 10, Region.HEADER: 3} | dict(present)
    trained = dict.fromkeys(Region, 0) | ANSWERS | dict(supervised)
    sound = {
        "kind": "data", "beyond": False, "tokens": 20, "soft_tokens": 2, "expected_soft_tokens": 2, "answers": 1,
        "found": 1, "ended": 1, "untrained": 0, "moved": 0, "gap": 0, "contiguous": True, "unexpanded_gap": -2,
        "foreign_labels": 0, "bos": 1, "same_prompt": True, "text": f"labels of {name}",
    }  # fmt: skip
    return RowCheck(name, present=held, supervised=trained, **sound | other)


def said(rule, *rows, data=None, ours=False, training=None, **evidence):
    """Messages of a rule on rows, and the counts of what it examined."""
    checks = CollatorChecks(rows, (), {"input_ids": (1, 20)}, (), (), 0, "mine", ours)
    sections = {name: held for name, held in (("data", data), ("training", training)) if held}
    spec = RunSpec(model=ModelRef(id="x"), lora=Lora(), **sections)
    told = list(rule.check(spec, checks, **evidence))
    return [each.message for each in told if isinstance(each, Finding)], [
        each.count for each in told if isinstance(each, Examined)
    ]


@pytest.mark.parametrize(("rule", "rows", "says"), [
    (labels.prompt_supervised, (row("a", supervised={Region.PROMPT: 1}), row("b", supervised={Region.PROMPT: 7})),
     "mine: 7 of 10 ids of the prompt are supervised in a; b; allowed: none"),
    (labels.image_supervised, (row("a", present={Region.IMAGE: 9}, supervised={Region.IMAGE: 1}),
                               row("b", present={Region.IMAGE: 9}, supervised={Region.IMAGE: 5})),
     "mine: 5 of 9 image ids are supervised in a; b; allowed: none"),
    (labels.image_supervised, (row("a", present={Region.PADDING: 3}, supervised={Region.PADDING: 2}), row("b")),
     "mine: 2 of 3 padding ids are supervised in a; allowed: none"),
    (labels.answer_unsupervised, (row("a", supervised={Region.ANSWER: 3}), row("b", supervised={Region.ANSWER: 1})),
     "mine: 1 of 4 ids of the answer are supervised in a; b; allowed: all"),
    (labels.end_unlearnt, (row("a"), row("b", supervised={Region.END: 0})),
     "mine: the end token of b is not supervised"),
    (labels.end_unlearnt, (row("a", ended=0, present={Region.END: 0}, supervised={Region.END: 0}),),
     "mine: the end token of a is not in the row"),
    (labels.after_end_supervised, (row("a", supervised={Region.AFTER: 2}), row("b")),
     "mine: 2 ids after the end token are supervised in a"),
    (labels.header_supervised, (row("a", supervised={Region.HEADER: 2}), row("b")),
     "mine: 2 of 3 ids of the turn's header are supervised in a"),
    (labels.nothing_supervised, (row("a", supervised={Region.ANSWER: 0, Region.END: 0}), row("b")),
     "mine: no id is supervised in a"),
    (labels.everything_supervised, (row("a", supervised={Region.PROMPT: 10, Region.HEADER: 3}), row("b")),
     "mine: all 20 ids of a are supervised; allowed: 5, the answer and its end token"),
    (spans.answer_truncated, (row("a", cut=True), row("b", cut=True, found=0, tokens=12)),
     "mine: b was cut: its 12 ids hold 0 of 1 answers and 2 of 2 soft tokens; allowed: all"),
    (spans.label_shift, (row("a"), row("b", moved=1)), "mine: labels stand +1 ids from where they ought to in b"),
    (spans.label_shift, (row("a", foreign_labels=3), row("b")),
     "mine: 3 labels are not the id at their position in a"),
    (spans.span_moves, (row("a", kind="grown", gap=-3, soft_tokens=3), row("b", kind="grown", gap=-9, soft_tokens=9)),
     "mine: the first label stands -3 ids from the answer at 3 soft tokens and -9 ids at 9; allowed: 0 in both"),
    (spans.span_moves, (row("a", gap=-2, soft_tokens=2), row("b")),
     "mine: the first label stands -2 ids from the answer at 2 soft tokens and -2 ids at 2; allowed: 0 in both"),
    (spans.anchor_in_prompt, (row("a", kind="listed", supervised={Region.PROMPT: 2}), row("b", kind="unlisted")),
     "mine: right where the question does not hold the answer; where it does, the labels say 'labels of a'"),
    (wording.text_differs, (row("a"), row("b", found=0)), "mine: b: 1 of 1 answers are not among its 20 ids"),
    (wording.text_differs, (row("a", found=0, difference=Difference(7, (5, 6), "pug", (8, 9, 10), "Pug", 0)),),
     "mine: a: the row says 'pug' (ids 7 to 8) where the conversation says 'Pug'"),
    (wording.text_differs, (row("a", found=0, difference=Difference(7, (), "", (8,), "Pug", 2)),),
     "mine: a: the row says '' (position 7) where the conversation says 'Pug', and 2 more stretches differ"),
    (wording.foreign_text_supervised, (row("a", supervised={Region.FOREIGN: 1}, foreign_text="x"),
                                       row("b", supervised={Region.FOREIGN: 6}, foreign_text="Answer:")),
     "mine: 6 ids beside the answer are supervised in a; b, which the conversation does not hold: 'Answer:'"),
    (wording.ignore_index, (row("a", ignored_as=0, ignored_count=4), row("b", ignored_as=-1, ignored_count=9)),
     "mine: 9 labels are -1 where -100 ought to stand in a; b"),
])  # fmt: skip
def test_the_worst_row_is_shown(rule, rows, says):
    """Beside the names of all rows that are wrong."""
    assert said(rule, *rows)[0] == [says]


@pytest.mark.parametrize(("rule", "rows"), [
    (labels.prompt_supervised, (row(found=0, supervised={Region.PROMPT: 3}),)),
    (labels.everything_supervised, (row(present={Region.PROMPT: 0}, supervised={Region.HEADER: 3}),)),
    (labels.everything_supervised, (row(cut=True, supervised={Region.PROMPT: 10, Region.HEADER: 3}),)),
    (labels.everything_supervised, (row(present={Region.IMAGE: 2}, supervised={Region.PROMPT: 10, Region.HEADER: 3}),)),
    (labels.end_unlearnt, (row(answers=2, found=2, ended=2, untrained=1, present={Region.END: 2}),)),
    (spans.answer_truncated, (row(),)),
    (spans.span_moves, (row(kind="grown", gap=-4), row(kind="grown", gap=-4, soft_tokens=9))),
    (spans.span_moves, (row(kind="grown", gap=-3, contiguous=False), row(kind="grown", gap=-9, soft_tokens=9))),
    (spans.span_moves, (row(answers=2, gap=-2),)),
    (spans.anchor_in_prompt, (row(kind="listed"), row(kind="unlisted"))),
    (spans.anchor_in_prompt, (row(kind="listed", moved=1), row(kind="unlisted", supervised={Region.PROMPT: 1}))),
    (wording.text_differs, (row(found=0, cut=True), row())),
    (wording.foreign_text_supervised, (row(present={Region.FOREIGN: 5}),)),
    (wording.ignore_index, (row(),)),
])  # fmt: skip
def test_what_is_no_fault_of_this_rule_is_left_alone(rule, rows):
    """Another rule names it, or it harms nothing."""
    assert said(rule, *rows)[0] == []


@pytest.mark.parametrize(("rule", "rows", "counts"), [
    (labels.prompt_supervised, (row(), row(found=0)), [1]),
    (labels.image_supervised, (row(present={Region.IMAGE: 2}), row(present={Region.PADDING: 3})), [2, 2, 3]),
    (labels.answer_unsupervised, (row(), row(answers=2, found=2)), [3]),
    (spans.span_moves, (row(kind="grown"), row(kind="grown", soft_tokens=9), row(soft_tokens=5)), [3, 2]),
    (spans.span_moves, (row(kind="grown", beyond=True), row(answers=2)), [1, 1]),
    (spans.answer_truncated, (row(tokens=12), row(tokens=31)), [2, 31]),
    (spans.label_shift, (row(), row()), [10]),
    (spans.anchor_in_prompt, (row(kind="listed"), row(kind="unlisted")), [2]),
    (wording.text_differs, (row(answers=2, found=2), row()), [3]),
    (wording.foreign_text_supervised, (row(found=0), row()), [1]),
    (wording.ignore_index, (row(), row(met=False), row(beyond=True)), [1]),
])  # fmt: skip
def test_what_was_examined_is_counted(rule, rows, counts):
    """Rows, ids or answers, those alone that the rule judges."""
    assert said(rule, *rows)[1] == counts


@pytest.mark.parametrize(("tokens", "overflow", "says"), [
    (30, "error", []),
    (31, "error", ["long: 31 tokens after image expansion; allowed: at most 30. Training stops there"]),
    (31, "drop", []),
])  # fmt: skip
def test_a_row_is_held_against_the_limit(tokens, overflow, says):
    """At the limit it is as long as it may be."""
    data = Data(max_length=30, overflow=overflow)

    assert said(spans.answer_truncated, row("long", tokens=tokens), row(), data=data, ours=True)[0] == says
    if overflow == "drop":
        told, _ = said(spans.rows_dropped, row("long", tokens=tokens), row(tokens=30), data=data, ours=True)
        assert told == ["1 of 2 rows are longer than 30 tokens and will be left out: long"]
    else:
        with pytest.raises(NotApplicable):
            said(spans.rows_dropped, row(), data=data, ours=True)


@pytest.mark.parametrize(("framework", "collator", "found"), [
    ("llamafactory", None, True), ("llamafactory", "mine:collate", False), (None, None, False),
])  # fmt: skip
def test_a_limit_holds_for_the_collator_that_knows_it(framework, collator, found):
    """That of the framework that is named; one of the user's own has its own."""
    data, training = Data(max_length=30, collator=collator), Training(framework=framework)

    assert bool(said(spans.answer_truncated, row(tokens=31), data=data, training=training)[0]) is found


def primed(ids):
    """A template whose generation prompt opens so many ids."""
    tokenizer = lambda text, add_special_tokens: {"input_ids": list(range(ids))}  # noqa: E731
    return SimpleNamespace(
        opening=SimpleNamespace(primer="<thought>" * ids), processor=SimpleNamespace(tokenizer=tokenizer)
    )


@pytest.mark.parametrize(("rows", "found"), [
    ((row("a", gap=6), row("b", gap=None)), True),
    ((row("a", gap=6), row("b", gap=1)), False),
    ((row("a", gap=6), row("b", gap=1, answers=2)), True),
    ((row("a", gap=5),), False),
    ((row("a", gap=6, answers=2),), False),
])  # fmt: skip
def test_a_mask_of_the_prompts_length_swallows_as_many_ids_as_it_opens(rows, found):
    """In every row of one answer that has a label at all."""
    told, counts = said(spans.prefix_swallows_answer, *rows, template=primed(6))

    assert bool(told) == found
    assert counts == [len(rows), 6]


def test_rules_of_probes_that_no_row_came_back_for_are_skipped():
    """Without the listed row or its control nothing is known of the anchor."""
    for rows in ((row(kind="listed"),), (row(kind="unlisted"),)):
        with pytest.raises(Unavailable):
            said(spans.anchor_in_prompt, *rows)
