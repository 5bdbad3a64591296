"""How large a run's micro-batches are, as far as its description tells; what it does not tell is assumed and said."""

from __future__ import annotations

import torch

from vlcheck.finding import Unavailable
from vlcheck.memory.batch import layout_of
from vlcheck.memory.shape import Shape
from vlcheck.model.family import Family, Values
from vlcheck.spec import RunSpec

TEMPLATE, SUPERVISED, GRAIN = 32, 16, 64
"""Tokens of the chat template and of an answer; rows are rounded up to multiples of the last."""


def shape_of(spec: RunSpec, family: Family, config: Values, *, rows: int | None = None, tokens: int | None = None,
             soft_tokens: int | None = None) -> Shape:  # fmt: skip
    """The shape of a run's micro-batch.

    Args:
        config: the model's config, as `transformers_config(...).to_dict()` gives it.
        rows, tokens, soft_tokens: what the caller knows better.

    Raises:
        Unavailable: for a model whose processor is not described, or rows that cannot hold their images.
    """
    images = int("image" in spec.data.modalities)
    wanted = soft_tokens or spec.data.max_soft_tokens
    soft, guess = family.soft_tokens(config, wanted) if family.soft_tokens else (wanted or 1, "")
    assumed = [guess] if guess and images else []
    body = images * len(layout_of(family, config, soft, torch.device("meta")).ids)
    words = -(-len(spec.data.instruction or "") // 3)
    length = -(-(body + words + TEMPLATE + SUPERVISED) // GRAIN) * GRAIN
    if tokens is None and spec.data.max_length is not None:
        length = min(length, spec.data.max_length)
    if tokens is None:
        assumed.append(
            f"rows of {length} tokens: {body} of the image, {words} of the instruction, {TEMPLATE} of the template, "
            f"{SUPERVISED} of the answer, rounded up to {GRAIN}"
        )
    try:
        return Shape(rows=rows or spec.training.per_device_train_batch_size, tokens=tokens or length, soft_tokens=soft,
                     images=images, supervised=SUPERVISED, assumptions=tuple(assumed))  # fmt: skip
    except ValueError as impossible:
        raise Unavailable(str(impossible)) from impossible
