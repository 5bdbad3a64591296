"""The allocator rounds, splits and joins as torch's does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vlcheck.memory.allocator import Allocator, play
from vlcheck.memory.tape import Tape

MIB = 2**20


def test_small_request_takes_512_bytes_of_a_2_mib_segment():
    allocator = Allocator()
    allocator.allocate(1)
    assert (allocator.allocated, allocator.reserved) == (512, 2 * MIB)


def test_middle_request_is_cut_from_20_mib():
    allocator = Allocator()
    allocator.allocate(3 * MIB)
    assert (allocator.allocated, allocator.reserved) == (3 * MIB, 20 * MIB)


def test_remainder_of_up_to_1_mib_is_not_split_and_counts():
    """A request of 10.5 MiB gets a segment of 12 MiB; 1.5 MiB are split off. One of 11.5 MiB keeps its 0.5 MiB."""
    split, kept = Allocator(), Allocator()
    split.allocate(10 * MIB + MIB // 2)
    kept.allocate(11 * MIB + MIB // 2)
    assert split.allocated == 10 * MIB + MIB // 2
    assert kept.allocated == 12 * MIB


def test_freed_neighbours_are_joined_and_reused():
    allocator = Allocator()
    first, second = allocator.allocate(4 * MIB), allocator.allocate(4 * MIB)
    allocator.release(first)
    allocator.release(second)
    allocator.allocate(16 * MIB)
    assert allocator.reserved == 20 * MIB


@given(st.lists(st.tuples(st.integers(1, 40 * MIB), st.integers(0, 10)), max_size=40))
def test_nothing_is_lost(requests):
    """What is allocated is the sum of the granted blocks, never less than was asked, never more than is reserved."""
    allocator, held = Allocator(), []
    for size, back in requests:
        block = allocator.allocate(size)
        held.append((size, block))
        if back < len(held):
            allocator.release(held.pop(back)[1])
        assert allocator.allocated == sum(block.size for _, block in held)
        assert all(block.size >= size for size, block in held)
        assert allocator.allocated <= allocator.reserved
    for _, block in held:
        allocator.release(block)
    allocator.empty_cache()
    assert (allocator.allocated, allocator.reserved) == (0, 0)


def test_played_blocks_add_up_to_the_peak():
    tape = Tape()
    kept = [tape.allocate(size, "a") for size in (100, 5 * MIB, 11 * MIB)]
    tape.release(kept[1])
    tape.allocate(700, "b")
    played = play(tape)
    assert sum(played.blocks.values()) == played.allocated_bytes
