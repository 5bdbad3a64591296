"""How large one micro-batch of a run is."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A micro-batch of rows of equal length, each with the same number of equal images."""

    rows: int = 1
    """Rows of a micro-batch."""
    tokens: int = 512
    """Length of a row in tokens, after every image was expanded into its soft tokens."""
    soft_tokens: int = 256
    """Soft tokens of one image."""
    images: int = 1
    """Images of one row; 0 for text alone."""
    supervised: int = 8
    """Tokens of a row that the loss is taken over."""
    assumptions: tuple[str, ...] = field(default=(), compare=False)
    """What of this was assumed rather than read."""

    def __post_init__(self) -> None:
        needed = self.images * (self.soft_tokens + 2) + self.supervised
        if self.tokens < needed:
            raise ValueError(
                f"rows of {self.tokens} tokens cannot hold {self.images} images of {self.soft_tokens} soft tokens, "
                f"their markers and {self.supervised} supervised tokens: {needed}"
            )

    def __str__(self) -> str:
        return f"{self.rows} x {self.tokens} tokens, {self.images} x {self.soft_tokens} soft tokens a row"
