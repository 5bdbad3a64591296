"""What counts as one label, as a slip of another, and as a prompt that gives an answer away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults import add, asked, data_of, write_sound
from vlcheck.data.answers import Answers, holds, key, one_edit_apart
from vlcheck.data.scan import scan_data
from vlcheck.finding import Finding
from vlcheck.rules import answers as rules
from vlcheck.spec import Lora, ModelRef, RunSpec


@pytest.mark.parametrize(
    "spelling",
    ["german_shepherd", "German Shepherd", "german-shepherd", " german  shepherd.", "ＧＥＲＭＡＮ shepherd"],
)
def test_spellings_of_one_label(spelling):
    """Case, separators, spaces, a full stop and full-width letters do not make another label."""
    assert key(spelling) == "german shepherd"


def test_composed_and_decomposed_letters():
    """é is one sign or two."""
    assert key("e\u0301pagneul") == key("épagneul") == "épagneul"


@given(st.text())
def test_key_of_a_key(text):
    """Normalising twice changes nothing more."""
    assert key(key(text)) == key(text)


def test_words_in_a_row():
    """Whole words are looked for, not letters inside others."""
    assert holds("a photo of a pug on grass", "pug")
    assert not holds("pugnacious dogs", "pug")
    assert holds("german shepherd", "german shepherd")


@pytest.mark.parametrize(
    ("one", "other"), [("beagle", "beagel"), ("beagle", "begle"), ("beagle", "beaagle"), ("beagle", "bebgle")]
)
def test_slips_of_a_letter(one, other):
    """Swapped, dropped, doubled, another one."""
    assert one_edit_apart(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("class 1", "class 2"), ("beagle", "eagles"), ("pug", "pug"), ("room 12", "room 21"), ("boxer", "boxers on")],
)
def test_labels_that_differ(one, other):
    """Numbers are no slips, two letters are no slip, and a label is none of itself."""
    assert not one_edit_apart(one, other)


WORDS = st.text("abcd", max_size=6)


@given(WORDS, WORDS)
def test_edits_against_the_definition(one, other):
    """Exactly the words that one insertion, deletion, replacement or swap of neighbours makes."""
    reached = set()
    for place in range(len(one) + 1):
        reached |= {one[:place] + letter + one[place:] for letter in "abcd"}
        reached |= {one[:place] + letter + one[place + 1 :] for letter in ("", *"abcd")}
        reached.add(one[:place] + one[place : place + 2][::-1] + one[place + 2 :])
    assert one_edit_apart(one, other) == (other in reached and other != one)


def test_free_text_has_no_labels():
    """Answers that hardly repeat, or are long, are no choice among labels."""
    free = Answers()
    for number in range(10):
        free.add(f"caption {number}", 0, number)
    assert free.labels() is None
    long = Answers()
    for number in range(10):
        long.add("x" * 101, 0, number)
    assert long.labels() is None


def test_labels_are_counted_by_split():
    """With the first row of each."""
    answers = Answers()
    for row, (answer, split) in enumerate([("pug", 0), ("boxer", 0), ("pug", 1), ("boxer", 1)]):
        answers.add(answer, split, row)
    labels = answers.labels()
    assert labels is not None
    assert (labels["pug"].counts, labels["boxer"].first) == ({0: 1, 1: 1}, 1)


# --------------------------------------------------------------------------- prompts


def given_away(folder: Path, *rows: dict) -> list[str]:
    """What the rule says of the sound data with these rows."""
    write_sound(folder)
    for row in rows:
        add(folder, row)
    spec = RunSpec(model=ModelRef(id="x/y"), lora=Lora(), data=data_of(folder))
    findings = rules.answer_given_away.check(spec, scan_data(spec.data))
    return [finding.message for finding in findings if isinstance(finding, Finding)]


@pytest.mark.parametrize(
    "rows",
    [
        [asked("Which of beagle, pug, german shepherd?", "pug")],  # a closed list
        [asked("Is this a poodle or a collie?", "collie")],  # a choice of two, neither a label elsewhere
        [asked("Say unknown if unsure.", "unknown"), asked("Say unknown if unsure.", "pug")],  # one prompt for all
        [asked("Answer yes or no: is it a dog?", "yes")],
        [asked("Is it brown?", "no")],
        [asked("Pugnacious dogs: which breed?", "pug")],
    ],
)
def test_prompts_that_give_nothing_away(tmp_path, rows):
    """Lists, choices, common instructions and words inside others are no leak."""
    assert given_away(tmp_path, *rows) == []


def test_free_answer_repeated_by_its_prompt(tmp_path):
    """Where answers are free text, only a long one in its own prompt is told."""
    captions = [f"a dog number {n} that sits on the grass" for n in range(200)]
    rows = [asked(f"Describe image {n}.", caption) for n, caption in enumerate(captions)]
    leak = asked("Repeat: two dogs play with a red ball.", "Two dogs play with a red ball")

    (message,) = given_away(tmp_path, *rows, leak)

    assert message.startswith('train.jsonl:245 ("Two dogs play with a red ball"): the prompt holds the answer; 1 of')


def test_imbalance_counts_a_label_in_all_its_spellings(tmp_path):
    """Another spelling is no rare label."""
    write_sound(tmp_path)
    for _ in range(30):
        add(tmp_path, {"image": "train/1.jpg", "label": "pug"})
    add(tmp_path, {"image": "train/1.jpg", "label": "PUG"})
    spec = RunSpec(model=ModelRef(id="x/y"), lora=Lora(), data=data_of(tmp_path))
    scan = scan_data(spec.data)
    for rule in (rules.class_imbalance, rules.unseen_answer):
        assert not [said for said in rule.check(spec, scan) if isinstance(said, Finding)]
    alone = replace(spec, data=replace(spec.data, eval_split=None))
    (odd,) = [said for said in rules.label_variants.check(alone, scan) if isinstance(said, Finding)]
    assert odd.message == 'train.jsonl:75 ("PUG"): 1 rows spell otherwise what 42 rows spell "pug"'
