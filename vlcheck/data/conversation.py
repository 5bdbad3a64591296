"""A conversation as samples hold it: turns of text and images, before any template has seen it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from PIL.Image import Image

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True)
class Picture:
    """An image of a conversation: a file, the bytes of one, or an image that is already open."""

    source: Path | bytes | Image
    name: str = ""
    """What messages call it; a file needs none."""

    def __str__(self) -> str:
        return self.name or (str(self.source) if isinstance(self.source, Path) else "an unnamed image")


Content: TypeAlias = str | Picture


@dataclass(frozen=True)
class Turn:
    """What one side says: text and images in their order."""

    role: Role
    content: tuple[Content, ...]
    thinking: str = ""
    """What an assistant thinks before it answers; trained like the answer."""

    @property
    def text(self) -> str:
        """The turn's text without its images."""
        return "".join(part for part in self.content if isinstance(part, str))

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The turn's images in order."""
        return tuple(part for part in self.content if isinstance(part, Picture))


class BadRow(Exception):
    """A row that cannot be trained on: what was seen, what is allowed; `pictures` are those that it holds."""

    def __init__(self, message: str, pictures: tuple[Picture, ...] = ()) -> None:
        super().__init__(message)
        self.pictures = pictures


@dataclass(frozen=True)
class Conversation:
    """One sample. Every assistant turn is an answer that the run trains.

    Raises:
        ValueError: if there is no assistant turn, a system turn that is not the first, or an image or a
            thinking block on a side that cannot have one.
    """

    turns: tuple[Turn, ...]
    name: str = field(default="", compare=False)
    """Where it comes from, for messages: `train.jsonl:12`, `train/beagle/7.jpg`."""

    def __post_init__(self) -> None:
        if not any(turn.role == "assistant" for turn in self.turns):
            raise ValueError(f"{self}: no assistant turn, so there is nothing to train")
        for number, turn in enumerate(self.turns):
            if turn.role not in ("system", "user", "assistant", "tool"):
                raise ValueError(
                    f"{self}: turn {number} has role {turn.role!r}; allowed: system, user, assistant, tool"
                )
            if turn.role == "system" and number:
                raise ValueError(f"{self}: turn {number} is a system turn; allowed: only the first")
            if turn.role != "user" and turn.pictures:
                raise ValueError(f"{self}: turn {number} ({turn.role}) holds an image; allowed: in user turns")
            if turn.role != "assistant" and turn.thinking:
                raise ValueError(f"{self}: turn {number} ({turn.role}) holds thinking; allowed: in assistant turns")

    def __str__(self) -> str:
        return self.name or "an unnamed row"

    @property
    def answers(self) -> tuple[int, ...]:
        """Indices of the assistant turns."""
        return tuple(index for index, turn in enumerate(self.turns) if turn.role == "assistant")

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All images in order."""
        return tuple(picture for turn in self.turns for picture in turn.pictures)


def as_messages(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """Turns in the shape that chat templates take; an image is a bare `{"type": "image"}`."""
    return [{"role": turn.role, "content": list(_parts(turn))} for turn in turns]


def _parts(turn: Turn) -> Iterator[dict[str, str]]:
    for part in turn.content:
        yield {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}
