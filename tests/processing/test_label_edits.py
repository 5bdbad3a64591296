"""The law of labels on ids written out by hand: what other tests take from the code stands here as a number."""

from __future__ import annotations

import pytest
import torch

from vlcheck.processing.labels import LabelLost, Span, label_answers, matches

ANCHOR, END = (5,), 6


def labels(ids, *spans):
    return label_answers(torch.tensor(ids), spans, anchor=ANCHOR, end=END).tolist()


def test_what_is_not_trained_is_minus_100():
    """Torch's cross entropy leaves out -100 and no other number."""
    assert labels([[2, 5, 9, 7, 8, 6, 9]], Span(0, 0, (5, 9), 0)) == [[-100, -100, -100, 7, 8, 6, -100]]
    assert torch.nn.functional.cross_entropy(torch.zeros(2, 9), torch.tensor([-100, 3])) == pytest.approx(
        torch.nn.functional.cross_entropy(torch.zeros(1, 9), torch.tensor([3])).item()
    )


def test_answers_of_several_rows_and_ranks():
    """Each answer is found at the anchor of its rank in its row, padding on either side."""
    ids = [[0, 0, 5, 9, 1, 6, 3, 5, 9, 2, 6], [5, 9, 4, 6, 5, 9, 8, 8, 6, 0, 0]]

    made = labels(ids, Span(0, 0, (5, 9), 0), Span(0, 1, (5, 9), 0), Span(1, 1, (5, 9), 0))

    assert made == [
        [-100, -100, -100, -100, 1, 6, -100, -100, -100, 2, 6],
        [-100, -100, -100, -100, -100, -100, 8, 8, 6, -100, -100],
    ]


def test_end_tokens_inside_an_answer_are_its_own():
    """An answer that holds two end tokens goes through the third; one before it counts for nothing."""
    ids = [[6, 5, 1, 6, 2, 6, 6, 3]]

    assert labels(ids, Span(0, 0, (5,), 2)) == [[-100, -100, 1, 6, 2, 6, 6, -100]]


def test_a_header_may_end_with_the_end_token():
    """It lies before the answer, and is none of its own."""
    assert labels([[5, 6, 7, 6, 1]], Span(0, 0, (5, 6), 0)) == [[-100, -100, 7, 6, -100]]


def test_an_empty_answer_is_its_end_token_at_the_very_end():
    """The last id of a row can be the only one that is trained."""
    assert labels([[5, 9, 6]], Span(0, 0, (5, 9), 0)) == [[-100, -100, 6]]


def test_adjacent_answers_do_not_run_into_each_other():
    """The header between two answers is not trained."""
    assert labels([[5, 1, 6, 5, 2, 6]], Span(0, 0, (5,), 0), Span(0, 1, (5,), 0)) == [[-100, 1, 6, -100, 2, 6]]


@pytest.mark.parametrize(("ids", "span", "says"), [
    ([[1, 2, 3]], Span(0, 0, (5,), 0), "its header is not among the ids"),
    ([[5, 1, 6]], Span(0, 1, (5,), 0), "its header is not among the ids"),
    ([[5, 1, 6], [1, 1, 1]], Span(1, 0, (5,), 0), "its header is not among the ids"),
    ([[5, 8, 1, 6]], Span(0, 0, (5, 9), 0), "its first characters were cut into one token with its header"),
    ([[5, 9, 1, 1]], Span(0, 0, (5, 9), 0), "its end token is not among the ids"),
    ([[5, 9, 1, 6]], Span(0, 0, (5, 9), 1), "its end token is not among the ids"),
    ([[6, 1, 5, 9]], Span(0, 0, (5, 9), 0), "its end token is not among the ids"),
])  # fmt: skip
def test_a_lost_answer_is_named(ids, span, says):
    """Which span, and what was missing."""
    with pytest.raises(LabelLost) as lost:
        labels(ids, span)

    assert str(lost.value) == says
    assert lost.value.span is span


def test_a_sequence_is_found_where_all_of_it_stands():
    """Not where it would run over the end of the row."""
    found = matches(torch.tensor([[1, 2, 3, 1, 2, 1], [3, 1, 2, 3, 3, 1]]), (1, 2, 3))

    assert found.int().tolist() == [[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]]
