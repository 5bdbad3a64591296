"""Which rows a run takes, in which order, and what is left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.runs import collator, digest, interrupted, run, small
from vlcheck.data.conversation import BadRow, Conversation, Picture, Turn
from vlcheck.data.read import RowProblem, read_rows
from vlcheck.spec import ConfigError
from vlcheck.training.feed import collate_rows, feed
from vlcheck.training.order import Listed, Order, Streamed
from vlcheck.training.rows import read_training_rows
from vlcheck.training.watch import RunStopped

orders = st.builds(
    Order,
    rows=st.integers(1, 40),
    total=st.integers(1, 150),
    micro_batch=st.integers(1, 5),
    accumulation=st.integers(1, 4),
    processes=st.integers(1, 3),
    seed=st.integers(0, 2**63),
)


@settings(max_examples=200)
@given(orders)
def test_every_place_is_taken_once(order):
    """By one process, in one step; only the last step may be smaller."""
    steps = [[order.micro_batches(step, rank) for rank in range(order.processes)] for step in range(order.steps)]
    taken = [place for step in steps for rank in step for micro in rank for place in micro]
    assert sorted(taken) == list(range(order.total))
    sizes = [sum(len(micro) for rank in step for micro in rank) for step in steps]
    assert sizes[:-1] == [order.effective_batch] * (order.steps - 1)
    assert 0 < sizes[-1] <= order.effective_batch


@settings(max_examples=100)
@given(orders, st.integers(0, 3))
def test_every_epoch_is_a_permutation(order, epoch):
    rows = [order.row(epoch * order.rows + place) for place in range(order.rows)]
    assert sorted(rows) == list(range(order.rows))


@settings(max_examples=100)
@given(orders, st.integers(1, 3))
def test_processes_share_the_step_of_one(order, processes):
    """Rows of a step are the same however many processes divide them."""
    alone = replace(order, processes=1, accumulation=order.accumulation * processes)
    together = replace(order, processes=processes)
    for step in range(alone.steps):
        one = sorted(place for micro in alone.micro_batches(step, 0) for place in micro)
        many = sorted(p for r in range(processes) for micro in together.micro_batches(step, r) for p in micro)
        assert one == many


def test_epochs_differ():
    order = Order(64, 128, 1, 1, 1, seed=3)
    first, second = ([order.row(epoch * 64 + place) for place in range(64)] for epoch in (0, 1))
    assert first != second
    assert first != list(range(64))


def given_rows(count: int = 6):
    return read_training_rows(small("none"), offline=True).conversations[:count]


@pytest.mark.parametrize("workers", [0, 2])
def test_feeding_from_the_middle(workers):
    """The same names as from the start, by a thread and by processes."""
    rows, order = given_rows(), Order(6, 9, 2, 2, 1, seed=0)
    make = collator(small("none"))
    whole = list(feed(Listed(rows, order), order, make, rank=0, start=0))
    assert [[len(micro.names) for micro in step] for step in whole] == [[2, 2], [2, 2], [1]]
    later = list(feed(Listed(rows, order), order, make, rank=0, start=1, workers=workers))
    assert [[micro.names for micro in step] for step in later] == [[m.names for m in s] for s in whole[1:]]
    assert all((a.batch["input_ids"] == b.batch["input_ids"]).all() for a, b in zip(whole[1], later[0], strict=True))


def test_unreadable_images_are_told():
    good = given_rows(2)
    bad = Conversation((Turn("user", (Picture(b"GIF89a", "broken.gif"), "?")), Turn("assistant", ("red",))), "row 7")
    micro = collate_rows(collator(small("none")), [good[0], bad, good[1]])
    assert micro.names == ("train[0]", "train[1]")
    assert [name for name, _ in micro.unreadable] == ["row 7"]
    assert "broken.gif" in micro.unreadable[0][1]
    alone = collate_rows(collator(small("none")), [bad])
    assert alone.batch is None
    assert alone.supervised == 0


@pytest.mark.parametrize("overflow", ["error", "drop"])
def test_long_rows(overflow):
    """They stop the run, or are left out and told, even where nothing else is in the batch."""
    rows = given_rows(2)
    long = Conversation((*rows[1].turns[:1], Turn("assistant", ("red " * 90,))), "long")
    make = replace(collator(small("none")), max_length=130, overflow=overflow)
    if overflow == "error":
        with pytest.raises(BadRow, match=r"long: \d+ tokens after image expansion; allowed: at most 130"):
            collate_rows(make, [rows[0], long])
        return
    micro = collate_rows(make, [rows[0], long])
    assert micro.names == ("train[0]",)
    assert Counter(row.name for row in micro.dropped) == {"long": 1}
    alone = collate_rows(make, [long])
    assert alone.batch is None
    assert len(alone.dropped) == 1


def test_a_stream_is_shuffled_within_its_window():
    """Every row once an epoch, none earlier than the window lets it, and the same again from the middle."""
    rows = list(read_rows(small("none").data, "train"))
    stream = Streamed(lambda: iter(rows), seed=1, window=4)
    taken, _ = stream.take(tuple(range(32)))
    names = [str(row) for row in taken]
    assert sorted(names[:16]) == sorted(names[16:]) == sorted(row.name for row in rows)
    assert names[:16] != names[16:]
    assert all(int(name[6:-1]) <= place + 3 for place, name in enumerate(names[:16]))
    later, _ = Streamed(lambda: iter(rows), seed=1, window=4).take((9, 20))
    assert [str(row) for row in later] == [names[9], names[20]]


def test_a_stream_names_its_broken_rows_once():
    rows = [RowProblem("rows.jsonl:1", "train", "no answer"), *list(read_rows(small("none").data, "train"))[:3]]
    stream = Streamed(lambda: iter(rows), seed=1, window=2)
    first, broken = stream.take((0, 1, 2))
    assert len(first) == 3
    assert broken == (("rows.jsonl:1", "no answer"),)
    assert stream.take((3, 4, 5))[1] == ()


def test_an_empty_stream_ends():
    with pytest.raises(RunStopped, match="no usable row"):
        Streamed(lambda: iter(()), seed=1).take((0,))


def test_a_streamed_run_is_resumed_where_it_was(tmp_path):
    """The adapter of an uninterrupted streamed run, to the last bit."""
    whole, parted = (small(tmp_path / name, max_steps=5, gradient_accumulation_steps=1) for name in ("whole", "parted"))
    run(whole, rows=read_training_rows(whole, stream=True))
    interrupted(parted, 3, rows=read_training_rows(parted, stream=True))
    assert run(parted, rows=read_training_rows(parted, stream=True)).resumed_from == 2
    assert digest(tmp_path / "whole") == digest(tmp_path / "parted")


def test_a_streamed_run_needs_an_end(tmp_path):
    spec = small(tmp_path, max_steps=-1)
    spec = replace(spec, data=replace(spec.data, train_samples=None))
    with pytest.raises(ConfigError, match=r"no known end; set training\.max_steps or data\.train_samples"):
        run(spec, rows=read_training_rows(spec, stream=True))
