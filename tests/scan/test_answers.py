"""What counts as one label, as a slip of another, and as a prompt that gives an answer away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlcheck.wording import Answers, holds, key, one_edit_apart


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
