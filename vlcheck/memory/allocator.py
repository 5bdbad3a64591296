"""The CUDA caching allocator of torch, played on a tape.

Read from torch 2.11 to 2.13, `c10/cuda/CUDACachingAllocator.cpp`, with its default settings: requests are
rounded to 512 bytes; those up to 1 MiB are cut from segments of 2 MiB, those below 10 MiB from segments of
20 MiB, larger ones get a segment of their own, a multiple of 2 MiB. A free block is the smallest that fits; what
is left of it becomes a block of its own if it is 512 bytes or more in a small segment, or more than 1 MiB in a
large one. What is left and not split counts as allocated.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field

from vlcheck.memory.tape import Tape

ROUND, SMALL, SMALL_SEGMENT = 512, 2**20, 2 * 2**20
MIDDLE, MIDDLE_SEGMENT, LARGE_ROUND = 10 * 2**20, 20 * 2**20, 2 * 2**20


class OutOfMemory(Exception):
    """A request that does not fit even once every unused segment was given back."""


@dataclass(slots=True)
class Block:
    """A stretch of a segment; neighbours are linked, so that free ones can be joined."""

    start: int
    size: int
    small: bool
    free: bool = False
    before: Block | None = None
    after: Block | None = None


@dataclass
class Allocator:
    """Counters as torch reports them, and the free blocks of its two pools, by size and address."""

    limit: int | None = None
    """Bytes that segments may take; None is without limit."""
    allocated: int = 0
    reserved: int = 0
    allocated_peak: int = 0
    reserved_peak: int = 0
    _free: tuple[list[tuple[int, int]], list[tuple[int, int]]] = field(default_factory=lambda: ([], []))
    _at: dict[int, Block] = field(default_factory=dict)
    _next: int = 0

    def allocate(self, size: int) -> Block:
        """The block that torch would hand out.

        Raises:
            OutOfMemory: beyond the limit.
        """
        size = -(-size // ROUND) * ROUND or ROUND
        small = size <= SMALL
        pool = self._free[small]
        place = bisect_left(pool, (size, 0))
        block = self._at[pool.pop(place)[1]] if place < len(pool) else self._new_segment(size, small)
        block.free = False
        left = block.size - size
        if left >= ROUND if small else left > SMALL:
            rest = Block(block.start + size, left, small, True, block, block.after)
            if block.after is not None:
                block.after.before = rest
            block.after, block.size = rest, size
            self._at[rest.start] = rest
            insort(pool, (left, rest.start))
        self.allocated += block.size
        if self.allocated > self.allocated_peak:  # noqa: PLR1730  a call of max a block takes a tenth of a plan's time
            self.allocated_peak = self.allocated
        return block

    def release(self, block: Block) -> None:
        """Give a block back, joined with free neighbours."""
        self.allocated -= block.size
        pool = self._free[block.small]
        before, after = block.before, block.after
        if after is not None and after.free:
            self._take(pool, after)
            del self._at[after.start]
            block.size += after.size
            block.after = after.after
            if block.after is not None:
                block.after.before = block
        if before is not None and before.free:
            self._take(pool, before)
            del self._at[block.start]
            before.size += block.size
            before.after = block.after
            if block.after is not None:
                block.after.before = before
            block = before
        block.free = True
        insort(pool, (block.size, block.start))

    def empty_cache(self) -> None:
        """Give segments that hold nothing back to the driver."""
        for pool in self._free:
            for size, start in list(pool):
                block = self._at[start]
                if block.before is None and block.after is None:
                    pool.remove((size, start))
                    del self._at[start]
                    self.reserved -= size

    def _new_segment(self, size: int, small: bool) -> Block:
        if small:
            wanted = SMALL_SEGMENT
        elif size < MIDDLE:
            wanted = MIDDLE_SEGMENT
        else:
            wanted = -(-size // LARGE_ROUND) * LARGE_ROUND
        if self.limit is not None and self.reserved + wanted > self.limit:
            self.empty_cache()
            if self.reserved + wanted > self.limit:
                raise OutOfMemory(f"{wanted} bytes more than {self.reserved} of {self.limit}")
        self.reserved += wanted
        self.reserved_peak = max(self.reserved_peak, self.reserved)
        block = Block(self._next, wanted, small)
        self._next += wanted + LARGE_ROUND  # segments never touch
        self._at[block.start] = block
        return block

    @staticmethod
    def _take(pool: list[tuple[int, int]], block: Block) -> None:
        del pool[bisect_left(pool, (block.size, block.start))]


@dataclass(frozen=True)
class Played:
    """What the allocator reached on a tape, and the event of the allocated peak."""

    allocated_bytes: int
    reserved_bytes: int
    peak_event: int
    blocks: dict[int, int]
    """Bytes of each block that lives at the peak, rounding included."""
    segments: dict[str, int]
    """Allocated peak within each moment."""


def play(tape: Tape, *, limit: int | None = None) -> Played:
    """Run a tape through an allocator that starts empty.

    Args:
        limit: bytes that segments may take; None is without limit.

    Raises:
        OutOfMemory: beyond the limit.
    """
    allocator = Allocator(limit)
    held: dict[int, Block] = {}
    granted: dict[int, int] = {}
    marks, moment, upcoming = [*tape.marks, (len(tape.events) + 1, "")], "", 0
    peak, peak_event = -1, 0
    moments: dict[str, int] = {}
    most, begins = 0, marks[0][0]
    sizes, allocate, release = tape.sizes, allocator.allocate, allocator.release
    for number, event in enumerate(tape.events):
        while begins <= number:
            if most:
                moments[moment] = max(most, moments.get(moment, 0))
            moment, most = marks[upcoming][1], 0
            upcoming += 1
            begins = marks[upcoming][0]
        if event >= 0:
            held[event] = block = allocate(sizes[event])
            granted[event] = block.size
            if allocator.allocated > most:
                most = allocator.allocated
                if most > peak:
                    peak, peak_event = most, number
        elif ~event in held:
            release(held.pop(~event))
    if most:
        moments[moment] = max(most, moments.get(moment, 0))
    blocks = {block: granted[block] for block in tape.living(peak_event)}
    return Played(peak, allocator.reserved_peak, peak_event, blocks, moments)
