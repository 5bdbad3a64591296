"""A collated row in pieces, as a person reads it: what is supervised, what is not, where the images are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import torch

from vlcheck.collators.regions import TokenMap
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
class RowView:
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


def pieces_of(batch: Mapping[str, torch.Tensor], number: int, token_map: TokenMap) -> tuple[Piece, ...]:
    """The pieces of a row: each image's soft tokens in one, ordinary text as long as it is supervised alike."""
    ids, labels = batch["input_ids"][number].tolist(), batch["labels"][number].tolist()
    mask = batch.get("attention_mask")
    real = [True] * len(ids) if mask is None else mask[number].bool().tolist()
    looks = [_look(*each, token_map) for each in zip(ids, labels, real, strict=True)]
    pieces: list[Piece] = []
    for look, group in groupby(zip(looks, ids, strict=True), key=lambda pair: pair[0]):
        own = [number for _, number in group]
        pieces.append(Piece(look, _text(look, own, token_map), len(own)))
    return tuple(pieces)


def _look(number: int, label: int, real: bool, token_map: TokenMap) -> Look:
    base: Look = "padding" if not real else "image" if number == token_map.soft_id else "prompt"
    if label == IGNORE_INDEX:
        return base
    return {"padding": "supervised padding", "image": "supervised image", "prompt": "supervised"}[base]  # type: ignore[return-value]


def _text(look: Look, ids: Sequence[int], token_map: TokenMap) -> str:
    if look.endswith("image"):
        return f"{len(ids)} soft tokens"
    if look.endswith("padding"):
        return f"{len(ids)} padding"
    return b"".join(map(token_map.bytes_of, ids)).decode("utf-8", "replace")
