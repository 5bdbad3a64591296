"""Exact match and the statistics: known values, and laws that hold for any answers."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vlcheck.evaluation.scores import Paired, mcnemar, pair, score, wilson
from vlcheck.processing.exact_match import matches, normalise

ANSWERS = st.sampled_from(("red", "Red.", "blue", "light_blue", "", "Unknown", "red or blue", "no"))
COUNTS = st.integers(0, 300)


# --------------------------------------------------------------------------- exact match


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("american bulldog", "american_bulldog"),
        ("American__Bulldog.\n", "american_bulldog"),
        ('"Beagle"', "beagle"),
        ("“Beagle”.", "Beagle"),
        ("`beagle`!", "Beagle"),
        ("ｂｅａｇｌｅ", "Beagle"),
        ("STRASSE", "straße"),
        ("Beagle .", "Beagle"),
        ("?", "?"),
    ],
)
def test_same_answer_in_another_spelling(answer, expected):
    """Case, width, white space, underscores, quotes around it and a final full stop do not matter."""
    assert matches(answer, expected)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("beagle or pug", "beagle"),
        ("It is a beagle.", "beagle"),
        ("beagles", "beagle"),
        ("american", "american_bulldog"),
        ("bulldog", "american_bulldog"),
        ("Unknown", "beagle"),
        ("", "beagle"),
        ("  _ ", "_"),
        ("great-dane", "great dane"),
        ("epagneul", "épagneul"),
        ("«beagle", "beagle"),
    ],
)
def test_another_answer(answer, expected):
    """Two names, a sentence, a part, a plural, nothing, another hyphen or accent: none is the answer."""
    assert not matches(answer, expected)


@given(st.text())
def test_normalising_twice_changes_nothing(text):
    """What is normalised stays as it is."""
    assert normalise(normalise(text)) == normalise(text)


EDGE = st.characters(categories=("L", "N"))


@given(
    st.tuples(EDGE, st.text(), EDGE).map("".join),
    st.sampled_from((str.upper, "  {}\n".format, '"{}"'.format, "{}.".format)),
)
def test_what_normalisation_drops_changes_no_match(text, spelled):
    """An answer matches itself in another spelling unless it is empty."""
    assume(normalise(text) and normalise(text).casefold() == normalise(text.upper()))
    assume(normalise(text)[-1:].isalnum() and normalise(text)[:1].isalnum())

    assert matches(spelled(text), text)


# --------------------------------------------------------------------------- scores


def test_scores_of_five_rows():
    """Counts, precision, recall and F1, worked out by hand."""
    found = score(["cat", "cat", "dog", "Dog", "cow"], ["Cat.", "dog", "dog", "a dog", "Unknown"])
    cat, cow, dog = found.classes

    assert (found.n, found.correct, found.accuracy, found.no_label) == (5, 2, 0.4, 2)
    assert (cat.n, cat.correct, cat.answered, cat.precision, cat.recall) == (2, 1, 1, 1.0, 0.5)
    assert (dog.n, dog.correct, dog.answered, dog.precision, dog.recall) == (2, 1, 2, 0.5, 0.5)
    assert (cow.n, cow.correct, cow.answered, cow.precision, cow.f1) == (1, 0, 0, None, 0.0)
    assert found.macro_f1 == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert found.confusion == {
        ("cat", "cat"): 1, ("cat", "dog"): 1, ("cow", None): 1, ("dog", "dog"): 1, ("dog", None): 1,
    }  # fmt: skip


def test_answers_that_are_no_label_get_no_class():
    """They lower their own row's class once; a class of theirs with F1 0 would lower the mean again."""
    found = score(["a", "b"], ["a", "-1"])

    assert [row.label for row in found.classes] == ["a", "b"]
    assert found.macro_f1 == 0.5


def test_no_rows():
    """There is no score of nothing."""
    with pytest.raises(ValueError, match="no rows"):
        score([], [])


@given(st.lists(st.tuples(st.sampled_from(("red", "blue", "light blue", "no")), ANSWERS), min_size=1, max_size=30))
def test_counts_add_up(rows):
    """Rows, hits and the confusion are three views of the same pairs."""
    expected, answers = zip(*rows, strict=True)
    found = score(expected, answers)

    assert found.n == len(rows) == sum(found.confusion.values())
    assert found.correct == sum(map(matches, answers, expected))
    assert sum(row.answered for row in found.classes) + found.no_label == len(rows)
    assert 0 <= found.macro_f1 <= 1
    assert found.interval.low <= found.accuracy <= found.interval.high


@given(st.lists(ANSWERS.filter(bool), min_size=1, max_size=20))
def test_right_answers_score_one(answers):
    """Whoever answers as expected gets everything."""
    found = score(answers, answers)

    assert (found.accuracy, found.macro_f1, found.interval.high) == (1.0, 1.0, 1.0)


# --------------------------------------------------------------------------- intervals and tests


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_of_the_literature(correct, n, low, high):
    """Newcombe 1998, table I."""
    found = wilson(correct, n)

    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share(counted):
    """The interval holds the share, stays within 0 and 1, and mirrors for misses."""
    correct, n = counted
    found, mirrored = wilson(correct, n), wilson(n - correct, n)

    assert 0 <= found.low <= correct / n <= found.high <= 1
    assert found.low == pytest.approx(1 - mirrored.high, abs=1e-9)


@pytest.mark.parametrize(("correct", "n"), [(1, 0), (0, 0), (-1, 5), (6, 5)])
def test_wilson_of_no_share(correct, n):
    """Counts that are no share are refused."""
    with pytest.raises(ValueError, match=f"{correct} of {n}"):
        wilson(correct, n)


@given(COUNTS, COUNTS)
def test_mcnemar_is_the_binomial_tail(first, second):
    """Against exact arithmetic, and in either order."""
    n, least = first + second, min(first, second)
    exact = min(Fraction(1), 2 * Fraction(sum(math.comb(n, k) for k in range(least + 1)), 2**n))

    assert mcnemar(first, second) == pytest.approx(float(exact), rel=1e-9)
    assert mcnemar(first, second) == mcnemar(second, first)


def test_mcnemar_known_values():
    """One against seven: 2 * (1 + 8) / 256."""
    assert mcnemar(1, 7) == pytest.approx(0.0703125)
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(86, 150) == pytest.approx(3.716e-05, rel=1e-3)  # approval ratings, Agresti: z squared is 17.36


def test_mcnemar_of_big_counts():
    """Millions neither overflow nor turn negative."""
    assert mcnemar(10**7, 10**7 + 1) == pytest.approx(1.0, abs=1e-3)
    assert mcnemar(10**7, 10**7 + 10**4) == pytest.approx(0.0253, abs=5e-4)  # 2.236 standard deviations
    assert mcnemar(0, 10**7) == 0.0


def test_paired_difference_of_the_literature():
    """Airway reactivity before and after, 1 and 7 of 21 changed: Bonett and Price's interval, worked out by hand."""
    found = Paired(both=1, first_only=7, second_only=1, neither=12)

    assert found.difference == pytest.approx(-6 / 21)
    assert (found.interval.low, found.interval.high) == (
        pytest.approx(-0.5083, abs=5e-4),
        pytest.approx(-0.0134, abs=5e-4),
    )


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_pairs_mirror(rows):
    """Exchanging the two turns the difference round, and the interval holds it."""
    first, second = zip(*rows, strict=True)
    one, other = pair(first, second), pair(second, first)

    assert one.n == len(rows)
    assert one.difference == -other.difference
    assert one.interval.low == pytest.approx(-other.interval.high)
    assert one.interval.low - 1e-9 <= one.difference <= one.interval.high + 1e-9
    assert one.p == other.p
