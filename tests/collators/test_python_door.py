"""A collator in its owner's own tests: what may be handed in, what comes back, what Hypothesis draws."""

from __future__ import annotations

import copy
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import find, given, settings
from transformers import BatchEncoding

import vlcheck
from tests.broken import collators
from vlcheck import Conversation, Picture, Severity, Turn, assert_collator, check_collator
from vlcheck.data.conversation import BadRow
from vlcheck.data.sources.held import as_conversations
from vlcheck.evidence.resolve import Evidence
from vlcheck.finding import Verdict
from vlcheck.model.catalogue import lookup
from vlcheck.model.families import family_of
from vlcheck.processing.collator import Collator
from vlcheck.processing.fallback import build_fallback
from vlcheck.spec import Intent, Lora, ModelRef, RunSpec

QWEN = "Qwen/Qwen3-VL-2B-Instruct"
TRL = find_spec("trl")
"""It ships Qwen's own template, with tools."""
IMAGE = collators.grey((64, 48))


@cache
def processor():
    values = lookup(QWEN).config
    return build_fallback(family_of(values), values)


def spoiled(change):
    """A sound collator of rows, its batch changed."""
    sound = collators.sound(processor())
    return lambda rows: change(dict(sound(rows)))


def test_rows_of_a_table_are_conversations():
    """Messages, a prompt with its completion, or an image with its label; lists do for tuples."""
    asked, said = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which?"}]}, "Pug"
    answer = {"role": "assistant", "content": said}

    rows = as_conversations([
        {"messages": [asked, answer], "images": [IMAGE]},
        {"prompt": [asked], "completion": [answer], "images": [IMAGE]},
        {"image": IMAGE, "label": said, "question": "Which?"},
        Conversation([Turn("user", [Picture(IMAGE), "Which?"]), Turn("assistant", said)]),
    ])  # fmt: skip

    assert [[turn.text for turn in row.turns] for row in rows] == [["Which?", "Pug"]] * 4
    assert [len(row.pictures) for row in rows] == [1] * 4
    assert all(isinstance(turn.content, tuple) for row in rows for turn in row.turns)


@pytest.mark.parametrize(("row", "says"), [
    ({"text": "x"}, "row 0 has text; allowed: messages, prompt and completion, or image and label"),
    (["x"], "row 0 is list; allowed: a vlcheck.Conversation or a mapping"),
    ({"messages": []}, "row 0: no assistant turn"),
])  # fmt: skip
def test_what_is_no_row_is_refused_by_name(row, says):
    """One refusal that says which row, what it has and what is allowed."""
    with pytest.raises(ValueError, match="row 0") as refused:
        as_conversations([row])

    assert says in str(refused.value)


@pytest.mark.parametrize(("change", "codes"), [
    (BatchEncoding, set()),
    (lambda batch: batch | {"labels": batch["labels"].float()}, {"VLC229"}),
    (lambda batch: batch | {"labels": batch["labels"].to("meta")}, {"VLC225"}),
    (lambda batch: batch | {"labels": batch["labels"].tolist()}, {"VLC225"}),
    (lambda batch: {key: value for key, value in batch.items() if key != "labels"}, {"VLC225"}),
    (lambda batch: tuple(batch.values()), {"VLC225"}),
    (lambda batch: batch | {"input_ids": batch["input_ids"] - 10**7}, {"VLC232"}),
])  # fmt: skip
def test_whatever_comes_back_is_judged_or_refused(change, codes):
    """A finding for every odd batch, and no rule that raises."""
    report = check_collator(spoiled(change), processor(), model=QWEN)

    assert [outcome.reason for outcome in report.with_verdict(Verdict.ERROR)] == []
    errors = {o.rule.code for o in report.found(Severity.ERROR) if not o.explained_by}
    assert codes <= errors
    assert bool(codes) == bool(errors)


@pytest.mark.parametrize(("change", "says"), [
    (collators.endless, "is not supervised"),
    (collators.cut(-1), "is not in the"),
])  # fmt: skip
def test_an_end_token_is_missed_in_the_row_or_in_the_labels(change, says):
    """The finding says which."""
    (outcome,) = check_collator(spoiled(change), processor(), model=QWEN, select=("VLC208",)).outcomes

    assert says in outcome.findings[0].message


def test_assert_collator_fails_with_what_a_person_reads():
    """A sound collator gives its report, a wrong one the text; the text is the terminal's, the string its sum."""
    report = assert_collator(collators.sound(processor()), processor(), model=QWEN)
    with pytest.raises(AssertionError) as failed:
        assert_collator(spoiled(collators.nothing), processor(), model=QWEN)

    assert "VLC211" in str(failed.value)
    assert str(report).startswith("0 errors, 0 warnings")
    assert str(report) in report.text()


def test_skipped_rules_fail_unless_told_otherwise():
    """A collator whose batches cannot be judged has not been found right."""
    wrong = spoiled(lambda batch: {})

    with pytest.raises(AssertionError):
        assert_collator(wrong, processor(), model=QWEN, select=("VLC202",))
    assert_collator(wrong, processor(), model=QWEN, select=("VLC202", "VLC217"), allow_skipped=True)


@pytest.mark.parametrize(("answers", "wrong"), [("all", True), ("last", False)])
def test_training_the_last_answer_may_be_meant(answers, wrong):
    """A collator that masks all answers but the last is wrong unless that is what the run means."""
    report = check_collator(collators.prefix_with_image(processor()), processor(), model=QWEN, answers=answers)

    assert ("VLC206" in {outcome.rule.code for outcome in report.found()}) == wrong
    assert ("VLC202" in {outcome.rule.code for outcome in report.found()}) is False


@pytest.mark.parametrize("hub_id", [QWEN, "HuggingFaceTB/SmolVLM2-256M-Video-Instruct"])
@pytest.mark.parametrize("thinking", ["", "A spotted coat."])
def test_our_own_collator_trains_the_last_answer_alone(hub_id, thinking):
    """Its labels are the last answer with its end, in one row a conversation, whatever rows its template asks for."""
    values = lookup(hub_id).config
    dialogue = family_of(values).dialogue
    last = Turn("assistant", ("Yes.",), thinking if dialogue.thought else "")
    row = Conversation((Turn("user", (Picture(IMAGE), "Breed?")), Turn("assistant", ("Bengal",)),
                        Turn("user", ("Sure?",)), last), "two answers")  # fmt: skip
    collator = Collator(build_fallback(family_of(values), values), dialogue, answers="last")

    batch = collator([row, row])

    held = batch["labels"] != -100
    assert len(held) == 2
    said = collator.processor.tokenizer.decode(batch["input_ids"][0][held[0]])
    assert said.strip().removesuffix(dialogue.end).endswith("Yes.")
    assert "Bengal" not in said


@pytest.mark.parametrize(("answers", "codes"), [("last", set()), ("all", {"VLC206"})])
def test_the_rules_take_our_collator_at_the_runs_word(answers, codes):
    """Trained on last answers, it is right where the run means that, and lacks answers where it does not."""
    own = Collator(processor(), family_of(lookup(QWEN).config).dialogue, answers="last")

    report = check_collator(own, processor(), model=QWEN, answers=answers, ignore=("VLC219", "VLC223", "VLC224"))

    assert {outcome.rule.code for outcome in report.found(Severity.WARNING)} == codes


def test_a_run_that_means_the_last_answer_gets_a_collator_that_trains_it():
    """`intent.answers` reaches the collator of audit and training."""
    spec = RunSpec(model=ModelRef(id=QWEN), lora=Lora(), intent=Intent(answers="last"))

    assert Evidence(spec, {}, offline=True).get("own_collator").answers == "last"


def test_drawn_conversations_shrink_to_one_picture_and_one_turn():
    """The simplest conversation is one question about one picture, and its answer."""
    simplest = find(vlcheck.strategies.conversations(processor()), lambda row: True, settings=settings(database=None))

    assert [turn.role for turn in simplest.turns] == ["user", "assistant"]
    assert len(simplest.pictures) == 1


@settings(max_examples=3, deadline=None, database=None)
@given(vlcheck.strategies.conversations(processor()))
def test_drawn_conversations_can_be_collated(conversation):
    """What is drawn, the processor holds."""
    batch = collators.sound(processor())([vlcheck.collators.probes.as_example(conversation)])

    assert (batch["labels"] != -100).any()


def test_a_tools_words_stand_in_the_prompt_and_are_not_trained():
    """Where the template writes any role, a tool's turn is a turn that nobody trains."""
    tool = Turn("tool", ("Bengal: spotted coat",))
    turns = (Turn("user", (Picture(IMAGE), "Breed?")), Turn("assistant", ("I shall look.",)), tool,
             Turn("assistant", ("Bengal",)))  # fmt: skip
    batch = Collator(processor(), family_of(lookup(QWEN).config).dialogue)([Conversation(turns, "row")])

    decode = processor().tokenizer.decode
    assert "Bengal: spotted coat" in decode(batch["input_ids"][0])
    assert decode(batch["labels"][batch["labels"] != -100]) == "I shall look.<|im_end|>Bengal<|im_end|>"


TOOL = Conversation((
    Turn("system", ("You are brief.",)), Turn("user", (Picture(IMAGE), "Breed?")), Turn("assistant", ("I look.",)),
    Turn("tool", ("Bengal: spotted coat",)), Turn("tool", ("12 kg",)), Turn("assistant", ("Bengal",)),
    Turn("user", ("Sure?",)), Turn("assistant", ("Yes.",)),
), "row")  # fmt: skip


@pytest.mark.skipif(TRL is None, reason="trl is not installed")
def test_a_tools_turns_are_written_as_qwens_own_template_writes_them():
    """The fallback's text is that of the published template, which the real tokenizer is asked with."""
    published = copy.copy(processor())
    published.chat_template = (Path(TRL.origin).parent / "chat_templates" / "qwen3_vl.jinja").read_text("utf-8")
    dialogue = family_of(lookup(QWEN).config).dialogue

    ours, theirs = (Collator(each, dialogue).template.rows(TOOL) for each in (processor(), published))

    assert ours == theirs
    assert "<tool_response>\nBengal: spotted coat\n</tool_response>\n<tool_response>\n12 kg" in ours[0].text


@pytest.mark.parametrize(("before", "after", "says"), [
    ("item['text']", "'' if tool else item['text']", "turn 3: {} this tool's words: 'Bengal: spotted coat'"),
    ("item['text']", "item['text'] | replace('brief', 'so')", "turn 0: {} this system's words: 'You are brief.'"),
])  # fmt: skip
def test_words_that_a_template_drops_or_rewrites_are_refused(before, after, says):
    """Trained and asked without them, a run would show nothing of it."""
    lossy = copy.copy(processor())
    assert before in lossy.chat_template
    lossy.chat_template = lossy.chat_template.replace(before, after)
    template = Collator(lossy, family_of(lookup(QWEN).config).dialogue).template

    with pytest.raises(BadRow, match="row, " + says.format("the chat template does not write")):
        template.rows(TOOL)
