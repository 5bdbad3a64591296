"""How large one micro-batch of a run is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum


class Basis(Enum):
    """What says how long rows are."""

    GIVEN = "given"
    ROWS = "the rows of the data"
    LIMIT = "max_length, the worst case"
    ASSUMED = "assumed, not read"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A micro-batch of rows padded to one length, with equal images.

    Another number of rows may be put in with `replace`: what is known of the first rows alone (`pictures`, `answers`)
    bounds any number of rows. Fewer are the fullest of them, and more are as full as any can be.
    """

    rows: int = 1
    """Rows of a micro-batch."""
    tokens: int = 512
    """Length of a row in tokens, after every image was expanded into its soft tokens."""
    soft_tokens: int = 256
    """Soft tokens of one image."""
    images: int = 1
    """Images of a row; of the fullest, where rows differ."""
    supervised: int = 8
    """Tokens of a row that the loss is taken over; of the longest answer, where rows differ."""
    pictures: tuple[int, ...] = ()
    """Images of each of the first rows, the most first; of any row beyond, `images`."""
    answers: tuple[int, ...] = ()
    """Supervised tokens of each of the first rows, the most first; of any row beyond, `supervised`."""
    padded: bool = False
    """Whether rows are of different lengths: shorter ones are padded, and attention needs a mask."""
    basis: Basis = field(default=Basis.GIVEN, compare=False)
    """How far the rows of the run are known."""
    typical: Shape | None = field(default=None, compare=False)
    """The micro-batch of middling rows, where rows were measured."""
    assumptions: tuple[str, ...] = field(default=(), compare=False)
    """What of this was assumed rather than read."""

    def __post_init__(self) -> None:
        needed = self.images * (self.soft_tokens + 2) + self.supervised
        if self.tokens < needed:
            raise ValueError(
                f"rows of {self.tokens} tokens cannot hold {self.images} images of {self.soft_tokens} soft tokens, "
                f"their markers and {self.supervised} supervised tokens: {needed}"
            )

    def images_of(self, row: int) -> int:
        """Images of a row, counted from 0."""
        return self.pictures[row] if row < len(self.pictures) else self.images

    def supervised_of(self, row: int) -> int:
        """Supervised tokens of a row, counted from 0."""
        return self.answers[row] if row < len(self.answers) else self.supervised

    @property
    def even(self) -> bool:
        """Whether all rows hold as many images and as long an answer."""
        counts = {(self.images_of(row), self.supervised_of(row)) for row in range(self.rows)}
        return len(counts) == 1

    def with_rows(self, rows: int) -> Shape:
        """As this one, with another number of rows."""
        return replace(self, rows=rows)

    def __str__(self) -> str:
        many = {self.images_of(row) for row in range(self.rows)}
        images = f"{min(many)} to {max(many)}" if len(many) > 1 else f"{max(many)}"
        return f"{self.rows} x {self.tokens} tokens, {images} x {self.soft_tokens} soft tokens a row"
