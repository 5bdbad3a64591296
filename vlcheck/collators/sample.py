"""A collated row in pieces, as a person reads it: what is supervised, what is not, where the images are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import torch

from vlcheck.collators.regions import Lens
from vlcheck.processing.labels import IGNORE_INDEX

Look = Literal["supervised", "prompt", "image", "supervised image", "padding", "supervised padding"]


@dataclass(frozen=True)
class Piece:
    """Ids in a row that look alike."""

    look: Look
    text: str
    count: int
    """Ids."""


@dataclass(frozen=True)
class Strip:
    """One row of a batch."""

    name: str
    pieces: tuple[Piece, ...]
    origin: str
    """Whose collator made it."""
    processor: str

    @property
    def supervised(self) -> int:
        """Ids that have a label."""
        return sum(piece.count for piece in self.pieces if piece.look.startswith("supervised"))

    @property
    def tokens(self) -> int:
        """Ids that are not padding."""
        return sum(piece.count for piece in self.pieces if not piece.look.endswith("padding"))


def cut_up(batch: Mapping[str, torch.Tensor], number: int, lens: Lens) -> tuple[Piece, ...]:
    """The pieces of a row: each image's soft tokens in one, ordinary text as long as it is supervised alike."""
    ids, labels = batch["input_ids"][number].tolist(), batch["labels"][number].tolist()
    mask = batch.get("attention_mask")
    real = [True] * len(ids) if mask is None else mask[number].bool().tolist()
    looks = [_look(*each, lens) for each in zip(ids, labels, real, strict=True)]
    pieces: list[Piece] = []
    for look, group in groupby(zip(looks, ids, strict=True), key=lambda pair: pair[0]):
        own = [number for _, number in group]
        pieces.append(Piece(look, _text(look, own, lens), len(own)))
    return tuple(pieces)


def _look(number: int, label: int, real: bool, lens: Lens) -> Look:
    base: Look = "padding" if not real else "image" if number == lens.soft_id else "prompt"
    if label == IGNORE_INDEX:
        return base
    return {"padding": "supervised padding", "image": "supervised image", "prompt": "supervised"}[base]  # type: ignore[return-value]


def _text(look: Look, ids: Sequence[int], lens: Lens) -> str:
    if look.endswith("image"):
        return f"{len(ids)} soft tokens"
    if look.endswith("padding"):
        return f"{len(ids)} padding"
    return b"".join(map(lens.bytes_of, ids)).decode("utf-8", "replace")
