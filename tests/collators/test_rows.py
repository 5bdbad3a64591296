"""What a row check and the checks of a whole collator hold, written out for batches that are wrong in one known way."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from functools import cache

import pytest
import torch

from tests.broken import collators, public
from tests.broken.table import GEMMA3, GEMMA4, LLAVA, QWEN, SMOL, TWICE, asked, batch, own, rows
from vlcheck.collators.batch import Candidate
from vlcheck.collators.judge import CollatorChecks, Oracle, Refused, judge
from vlcheck.collators.probes import Probe, as_example
from vlcheck.collators.region_kinds import Region
from vlcheck.collators.regions import map_tokens
from vlcheck.collators.rows import RowCheck, Subject, check_row
from vlcheck.data.conversation import Conversation, Turn

SHORT, LONG = asked("Pug"), asked("It is a Bengal with many spots")
IGNORE = -100


@cache
def token_map(hub_id=QWEN):
    return map_tokens(own(hub_id).template)


def checked(change, row=SHORT, number=0, together=(SHORT, LONG), hub_id=QWEN, **subject):
    """The check of one row of a batch that was changed."""
    collator = own(hub_id)
    made = change(dict(collator(list(together))))
    wanted = collator.tensors(collator.template.rows(row))["input_ids"][0].tolist()
    held = Subject(
        Probe("plain", row), row.answers, wanted.count(token_map(hub_id).soft_id), ids=tuple(wanted), **subject
    )
    return check_row(held, made, number, collator, token_map(hub_id)), len(wanted)


def sound(made):
    return made


def test_a_sound_row():
    """Every field of a sound row, padding behind it."""
    row, tokens = checked(sound)

    assert (row.tokens, row.soft_tokens, row.expected_soft_tokens) == (tokens, 12, 12)
    assert (row.answers, row.found, row.ended, row.untrained) == (1, 1, 1, 0)
    assert (row.moved, row.gap, row.contiguous, row.foreign_labels, row.bos) == (0, 0, True, 0, 0)
    assert row.present[Region.END] == row.supervised[Region.END] == 1
    assert row.present[Region.ANSWER] == row.supervised[Region.ANSWER] > 0
    assert row.present[Region.PADDING] > 0
    assert row.present[Region.HEADER] > 0
    assert row.text == "Pug<|im_end|>"
    assert (row.unmasked, row.correct, row.cut, row.difference, row.ignored_as, row.foreign_text) == (
        False, True, False, None, None, "",
    )  # fmt: skip
    assert row.unexpanded_gap == -11
    assert row.name == "Pug"


@pytest.mark.parametrize(("change", "gap", "moved", "contiguous"), [
    (collators.moved(-1), -1, -1, True),
    (collators.moved(1), 1, 1, True),
    (collators.moved(-2), -2, -2, True),
    (collators.moved(2), 2, 2, True),
    (collators.first_ids_supervised, None, 0, False),
    (collators.unmasked, None, 0, True),
    (collators.first_id_masked, 1, 0, True),
])  # fmt: skip
def test_where_the_labels_stand(change, gap, moved, contiguous):
    """The gap, the shift, and whether ids before the answer are trained without a break."""
    row, tokens = checked(change)

    first = tokens - 1 - row.present[Region.ANSWER]
    assert row.gap == (gap if gap is not None else -first)
    assert (row.moved, row.contiguous, row.correct) == (moved, contiguous, False)


def test_a_row_without_labels():
    """No gap, no shift, an answer that is not trained."""
    row, _ = checked(collators.nothing)

    assert (row.gap, row.moved, row.untrained, row.text) == (None, 0, 1, "")
    assert row.found == 1


def test_labels_that_are_no_ids():
    """Shifted labels are the ids of their neighbours."""
    row, _ = checked(collators.shifted_twice, row=LONG, number=1)

    assert row.moved == -1
    assert row.foreign_labels == row.present[Region.ANSWER] + 1


@pytest.mark.parametrize(("places", "shifted"), [(-2, True), (-1, True), (1, True), (2, True), (3, False), (0, False)])
def test_ids_of_places_beside_are_shifted_labels(places, shifted):
    """One or two places; further away they are other ids."""

    def change(made):
        beside = made["input_ids"].roll(places, dims=1)
        return made | {"labels": beside.where(made["labels"] != IGNORE, IGNORE)}

    assert checked(change, row=LONG, number=1)[0].shifted is shifted


@pytest.mark.parametrize(("value", "count"), [(0, None), (-200, None), (-1, None)])
def test_another_number_for_ignore(value, count):
    """The number is named and counted, and the row is judged as if -100 stood there."""
    row, _ = checked(lambda made: made | {"labels": made["labels"].where(made["labels"] != IGNORE, value)})

    assert row.ignored_as == value
    assert row.ignored_count == row.tokens + row.present[Region.PADDING] - row.present[Region.ANSWER] - 1
    assert row.correct


def test_two_odd_labels_are_no_number_for_ignore():
    """It takes three of them."""

    def change(made):
        labels = made["labels"].clone()
        labels[0, :2] = 7
        return made | {"labels": labels}

    row, _ = checked(change)

    assert (row.ignored_as, row.ignored_count, row.foreign_labels) == (None, 0, 2)


def test_everything_trained():
    """Padding aside, every id."""
    row, _ = checked(collators.unmasked)

    assert row.unmasked
    assert row.supervised[Region.PADDING] == 0
    assert row.supervised[Region.IMAGE] == row.present[Region.IMAGE] == 14


def test_padding_is_told_from_ids_without_a_mask():
    """The padding's id at either end is padding, inside it is not."""

    def change(made):
        return {key: value for key, value in made.items() if key != "attention_mask"}

    row, tokens = checked(change)

    assert row.tokens == tokens
    assert row.correct


def test_a_row_that_was_cut():
    """It ends inside the answer."""

    def shortened(made):
        return {key: value[:, :-3] if value.dim() == 2 else value for key, value in made.items()}

    row, tokens = checked(shortened, row=LONG, number=1, together=(LONG, LONG))

    assert (row.found, row.cut, row.difference) == (0, True, None)
    assert row.tokens == tokens - 3
    assert (row.gap, row.unexpanded_gap, row.contiguous) == (None, 0, False)


@pytest.mark.parametrize(("hub_id", "lost", "cut"), [
    (QWEN, 5, True), (QWEN, 1, True), (QWEN, 0, False), (LLAVA, 5, True), (GEMMA4, 1, False),
])  # fmt: skip
def test_a_row_that_was_cut_on_its_left(hub_id, lost, cut):
    """It begins in the middle of a turn; a begin-of-text token that is missing is another fault."""
    row, _ = checked(lambda made: {key: value[:, lost:] if value.dim() == 2 and not value.is_floating_point() else value
                                   for key, value in made.items()}, hub_id=hub_id)  # fmt: skip

    assert (row.cut, row.found) == (cut, 1)


@pytest.mark.parametrize("hub_id", [QWEN, LLAVA])
def test_a_row_that_lost_whole_turns_was_not_cut(hub_id):
    """It begins as a row begins."""
    row = replace(SHORT, turns=(Turn("system", ("You are brief.",)), *SHORT.turns))

    assert not checked(sound, row=row, together=(SHORT,), hub_id=hub_id)[0].cut
    assert checked(sound, row=row, together=(SHORT,), hub_id=hub_id, own=True)[0].same_prompt is False


def test_a_row_that_says_something_else():
    """Which ids stand where which others ought to, and what both say; padding before the row is counted."""
    collator = replace_side()
    made = collator([asked("Pig"), LONG])
    wanted = own(QWEN).tensors(own(QWEN).template.rows(SHORT))["input_ids"][0].tolist()
    row = check_row(Subject(Probe("data", SHORT), (1,), 12, ids=tuple(wanted)), made, 0, collator, token_map())

    unlike = row.difference
    assert (row.found, row.cut) == (0, False)
    assert "i" in unlike.said
    assert "u" in unlike.wanted
    assert made["input_ids"][0, unlike.at : unlike.at + len(unlike.ids)].tolist() == list(unlike.ids)
    assert unlike.more == 0


def replace_side():
    """Our collator, padding on the left."""
    return replace(own(QWEN), padding_side="left")


def test_two_answers_and_one_of_them_untrained():
    """Each stretch counts by itself."""

    def change(made):
        labels = made["labels"].clone()
        first = int((labels[0] != IGNORE).nonzero()[0])
        labels[0, first : first + 4] = IGNORE
        return made | {"labels": labels}

    (twice,) = TWICE
    whole, _ = checked(sound, row=twice, together=(twice,))
    half, _ = checked(change, row=twice, together=(twice,))

    assert (whole.answers, whole.found, whole.ended, whole.untrained) == (2, 2, 2, 0)
    assert half.untrained in (0, 1)
    assert half.supervised[Region.END] <= 2
    assert not half.correct


@pytest.mark.parametrize("kept", [0, -1])
def test_an_answer_of_which_one_id_is_trained_is_not_untrained(kept):
    """Its first or its last."""

    def change(made):
        labels = torch.full_like(made["labels"], IGNORE)
        at = int((made["labels"][0] != IGNORE).nonzero()[kept])
        labels[0, at] = made["input_ids"][0, at]
        return made | {"labels": labels}

    assert checked(change)[0].untrained == 0


def test_as_many_prompts_as_answers():
    """Another number is a mistake of ours."""
    collator = own(QWEN)
    asked_with = tuple(collator.tensors([collator.template.prompt(SHORT, 1)])["input_ids"][0].tolist())
    with pytest.raises(ValueError, match="zip"):
        checked(sound, prompts=(asked_with, asked_with))


def test_the_prompt_is_held_against_evaluations():
    """The same words, however many soft tokens stand between them."""
    collator = own(QWEN)
    asked_with = tuple(collator.tensors([collator.template.prompt(SHORT, 1)])["input_ids"][0].tolist())

    assert checked(sound, prompts=(asked_with,))[0].same_prompt is True
    assert checked(collators.other_prompt, prompts=(asked_with,))[0].same_prompt is False
    assert checked(sound)[0].same_prompt is None


def test_the_prompt_of_every_answer_counts():
    """One of two that differs is enough."""
    collator, (twice,) = own(QWEN), TWICE
    rows = [collator.template.prompt(twice, turn) for turn in twice.answers]
    first, second = (tuple(collator.tensors([row])["input_ids"][0].tolist()) for row in rows)

    assert checked(sound, row=twice, together=(twice,), prompts=(first, second))[0].same_prompt is True
    for prompts in ((first, first), (second, second)):
        assert checked(sound, row=twice, together=(twice,), prompts=prompts)[0].same_prompt is False


def test_without_prompts_the_processors_own_row_is_what_a_prompt_is_held_against():
    """Its words before each answer; white space of an earlier answer is none of them."""
    (twice,) = TWICE
    wider = replace(twice, turns=(twice.turns[0], Turn("assistant", ("Bengal \n",)), *twice.turns[2:]))
    plain = public.turn_by_turn(own(QWEN).processor)
    other = replace(twice, turns=(*twice.turns[:2], Turn("user", ("Really?",)), twice.turns[3]))

    assert checked(sound, row=twice, together=(twice,), own=True)[0].same_prompt is True
    assert checked(lambda made: plain([as_example(wider)]), row=twice, own=True)[0].same_prompt is True
    assert checked(lambda made: dict(own(QWEN)([other])), row=twice, own=True)[0].same_prompt is False
    assert checked(lambda made: dict(own(QWEN)([asked("Pig")])), own=True)[0].same_prompt is None


def test_tiles_are_no_words_of_a_prompt():
    """Where another processor cuts an image into other tiles, their markers are the image's."""
    tokenizer = own(SMOL).processor.tokenizer

    assert set(tokenizer.convert_tokens_to_ids(["<row_1_col_1>", "<row_6_col_6>"])) <= token_map(SMOL).image_ids


def test_begin_of_text_ids_are_counted():
    """One in a sound row of Gemma's."""
    assert checked(sound, hub_id=GEMMA4)[0].bos == 1
    assert checked(sound, hub_id=GEMMA3)[0].unexpanded_gap == -258  # 256 soft tokens, two that frame them, one <bos>
    assert checked(collators.started_twice(2), hub_id=GEMMA4)[0].bos == 2


# --------------------------------------------------------------------------- the whole collator


def checks(make, given=(), **options):
    return judge(make(QWEN), own(QWEN), given, **options)


def test_the_checks_of_a_sound_collator():
    """Rows by kind, conversations, shapes, keys; nothing lost, nothing packed, nothing refused."""
    made = checks(rows(list))

    assert [len(made.of(kind)) for kind in ("plain", "listed", "unlisted", "long", "grown", "shape", "data")] == [
        1, 1, 1, 1, 10, 13, 0,
    ]  # fmt: skip
    assert (made.asked, made.shapes, made.packed, made.lost, made.refused, made.unmet) == (23, 12, 0, (), (), ())
    assert (made.misaligned, made.unmasked_padding, made.unlike, made.ours) == ((), (), (), False)
    assert made.typed == 26
    assert set(made.keys) == {
        "input_ids",
        "attention_mask",
        "labels",
        "pixel_values",
        "image_grid_thw",
        "mm_token_type_ids",
    }
    assert made.keys["input_ids"] == made.keys["labels"]
    assert all(row.correct for row in made.rows)
    assert not made.merged
    assert made.images.compared == 4


def test_data_that_has_a_shape_makes_it_count():
    """What the data lacks is only mentioned; rows of the data come in batches."""
    lacking, having = checks(rows(list), (SHORT, LONG, SHORT)), checks(rows(list), TWICE, batch=1)

    assert {row.shape for row in lacking.rows if row.met and row.shape} == {
        "two rows with different answers", "another script", "a long answer",
    }  # fmt: skip
    assert {"two answers", "three answers"} <= {row.shape for row in having.rows if row.met}
    assert len(lacking.of("data")) == 3


@pytest.mark.parametrize(("given", "held"), [((), False), (TWICE, True)])
def test_a_refused_shape_counts_where_the_data_holds_it(given, held):
    """A collator that raises on two answers is wrong for data with two answers."""

    def refusing(conversations):
        if any(len(row.answers) > 1 for row in conversations):
            raise ValueError("one answer only")
        return conversations

    made = checks(rows(refusing), given)

    assert {refused.shape for refused in made.unmet} >= (set() if held else {"two answers", "three answers"})
    assert any(refused.shape == "two answers" for refused in made.refused) == held


def test_rows_that_are_dropped_or_packed_are_counted():
    """Each by name, or by how many share a row."""
    dropped, packed = checks(rows(collators.dropping_rows)), checks(batch(collators.packing))

    assert dropped.lost == ("probe, long", "probe, different answers, second")
    assert (dropped.packed, packed.packed, packed.lost) == (0, 6, ())
    assert packed.merged


def test_more_rows_than_anything_explains_are_refused():
    """The number that came back and the number that was given."""
    made = checks(rows(lambda given: given * 3))

    assert made.refused[0].error == "12 rows came back for 4 conversations"


def test_rows_in_another_order_are_each_their_own():
    """Sorted by length, images and all."""
    made = checks(rows(lambda given: given[::-1]), (SHORT, LONG))

    assert [row.name for row in made.of("data")] == [LONG.name, SHORT.name]
    assert all(row.correct and row.same_prompt for row in made.rows if row.kind != "grown")
    assert made.images.misplaced == ""


def without_system(given):
    return [replace(row, turns=row.turns[row.turns[0].role == "system" :]) for row in given]


def test_every_prompt_is_held_against_the_conversation():
    """A system turn that is left out shows in the row that has one, whatever the data holds."""
    made = checks(rows(without_system))

    assert [row.name for row in made.rows if row.same_prompt is False] == ["probe, a system turn"]


def test_a_mask_is_missed_where_there_is_padding():
    """Each batch of rows of unequal length."""
    made = checks(batch(collators.dropping("attention_mask")))

    assert made.unmasked_padding == ("probe, plain", "probe, different answers, first")
    assert checks(batch(collators.mask_of_ones)).unmasked_padding == made.unmasked_padding
    assert checks(rows(list)).unmasked_padding == ()


def test_types_on_the_other_side_are_named():
    """The rows with padding."""
    made = checks(batch(collators.types_on_the_other_side("mm_token_type_ids")))

    assert made.misaligned[:1] == ("probe, plain",)
    assert len(made.misaligned) < made.typed


def last_alone(hub_id):
    """Masks all that the last prompt holds."""
    collate = collators.prefix_with_image(own(hub_id).processor)
    return Candidate(lambda given: collate([as_example(row) for row in given]), "entry")


def test_the_last_answer_alone():
    """With `last`, a row's one answer is its last."""
    made = checks(last_alone, TWICE, answers="last")
    rest = checks(last_alone, TWICE)

    assert all(row.correct for row in made.of("data"))
    assert not any(row.correct for row in rest.of("data"))
    assert [row.answers for row in made.of("data")] == [1]


def test_rows_an_answer_each():
    """Each is read as the conversation up to its answer."""

    def split(given):
        return [replace(row, turns=row.turns[: turn + 1]) for row in given for turn in row.answers]

    made = checks(rows(split), TWICE)

    assert [row.name for row in made.of("data")] == ["two answers, turn 1", "two answers, turn 3"]
    assert all(row.correct for row in made.rows)


def test_batches_with_an_odd_number_of_soft_tokens_are_kept():
    """At most four, for a model to judge."""

    def halved(given):
        return collators.redrawn(lambda image: image.resize((image.width * 2, image.height * 2)))(given)

    made = checks(rows(halved))

    assert len(made.unlike) == 4
    assert torch.is_tensor(made.unlike[0][1]["input_ids"])


@pytest.mark.parametrize(("given", "kept"), [((), ("probe, two images", "probe, a later image")), ((SHORT, LONG), ())])
def test_odd_soft_tokens_of_a_shape_that_the_run_does_not_meet_are_not_kept(given, kept):
    """The model is asked about what the run will meet."""

    def doubled(rows):
        enlarge = collators.redrawn(lambda image: image.resize((image.width * 2, image.height * 2)))
        return [enlarge([row])[0] if len(row.pictures) > 1 else row for row in rows]

    assert tuple(name for name, _ in checks(rows(doubled), given).unlike) == kept


def test_no_types_are_looked_at_where_a_family_has_none():
    """LLaVA's batches mark no image ids."""
    assert judge(rows(list)(LLAVA), own(LLAVA)).typed == 0


def test_a_conversation_without_images_has_no_soft_tokens():
    """And is right all the same."""
    row = Conversation((Turn("user", ("Name a breed.",)), Turn("assistant", ("Pug",))), "text")

    seen, _ = checked(sound, row=row, together=(row,))

    assert (seen.soft_tokens, seen.expected_soft_tokens, seen.correct) == (0, 0, True)


def test_what_is_not_said_of_a_row_is_no_fault():
    """Every field that has a default."""
    said = {field.name: field.default for field in fields(RowCheck) if field.default is not MISSING}

    assert said == {
        "shape": "", "met": True, "ignored_as": None, "ignored_count": 0, "cut": False, "difference": None,
        "foreign_text": "", "label_text": "", "shifted": False,
    }  # fmt: skip


@pytest.mark.parametrize("kind", [RowCheck, Subject, CollatorChecks, Refused, Oracle, Candidate, Probe])
def test_what_was_found_cannot_be_changed(kind):
    """Rules share what was collected."""
    assert kind.__dataclass_params__.frozen
