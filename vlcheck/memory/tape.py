"""The life of every storage of a step, in order: what was allocated, how large, for what, and when it died."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Tape:
    """Events by number: n allocates block n, ~n releases it. Blocks that never die stay.

    `causes` says what a block is for; `marks` names the moment that begins before an event.
    """

    events: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)
    marks: list[tuple[int, str]] = field(default_factory=list)

    def allocate(self, size: int, cause: str) -> int:
        """Begin a block of this many bytes; the number that is returned releases it."""
        self.sizes.append(size)
        self.causes.append(cause)
        self.events.append(len(self.sizes) - 1)
        return len(self.sizes) - 1

    def release(self, block: int) -> None:
        """End a block's life."""
        self.events.append(~block)

    def mark(self, moment: str) -> None:
        """Begin a moment."""
        self.marks.append((len(self.events), moment))

    def moment_at(self, event: int) -> str:
        """The moment that an event belongs to."""
        current = ""
        for begin, moment in self.marks:
            if begin > event:
                break
            current = moment
        return current

    def append(self, other: Tape) -> None:
        """Play another tape after this one."""
        shift, begin = len(self.sizes), len(self.events)
        self.events += [event + shift if event >= 0 else event - shift for event in other.events]
        self.sizes += other.sizes
        self.causes += other.causes
        self.marks += [(begin + event, moment) for event, moment in other.marks]

    def living(self, until: int) -> Iterator[int]:
        """Numbers of the blocks that live right after an event, oldest first."""
        alive: dict[int, None] = {}
        for event in self.events[: until + 1]:
            if event >= 0:
                alive[event] = None
            else:
                alive.pop(~event, None)
        return iter(alive)
