"""How large a run's micro-batches are, as far as its description tells; what it does not tell is assumed and said."""

from __future__ import annotations

import torch

from vlcheck.finding import Unavailable
from vlcheck.memory.batch import layout_of
from vlcheck.memory.shape import Shape
from vlcheck.model.family import Family, Values
from vlcheck.spec import Data

TEMPLATE, SUPERVISED, GRAIN = 32, 16, 64
"""Tokens of the chat template and of an answer; rows are rounded up to multiples of the last."""


def shape_of(data: Data, family: Family, config: Values, *, rows: int, tokens: int | None = None,
             soft_tokens: int | None = None) -> Shape:  # fmt: skip
    """The shape of a run's micro-batch.

    Args:
        config: the model's config, as `transformers_config(...).to_dict()` gives it.
        rows: micro-batch.
        tokens, soft_tokens: length of a row and soft tokens of an image, where the caller knows them better.

    Raises:
        Unavailable: for a model whose processor is not described, or rows that cannot hold their images.
    """
    images = int("image" in data.modalities)
    wanted = soft_tokens or data.max_soft_tokens
    soft, guess = family.soft_tokens(config, wanted) if family.soft_tokens else (wanted or 1, "")
    assumed = [guess] if guess and images else []
    body = images * len(layout_of(family, config, soft, torch.device("meta")).ids)
    words = -(-len(data.instruction or "") // 3)
    length = -(-(body + words + TEMPLATE + SUPERVISED) // GRAIN) * GRAIN
    if tokens is None and data.max_length is not None:
        length = min(length, data.max_length)
    if tokens is None:
        assumed.append(
            f"rows of {length} tokens: {body} of the image, {words} of the instruction, {TEMPLATE} of the template, "
            f"{SUPERVISED} of the answer, rounded up to {GRAIN}"
        )
    try:
        return Shape(rows=rows, tokens=tokens or length, soft_tokens=soft,
                     images=images, supervised=SUPERVISED, assumptions=tuple(assumed))  # fmt: skip
    except ValueError as impossible:
        raise Unavailable(str(impossible)) from impossible
