"""How large a run's micro-batches are, as far as its description tells; what it does not tell is assumed and said."""

from __future__ import annotations

import torch

from vlcheck.finding import Unavailable
from vlcheck.memory.batch import layout_of
from vlcheck.memory.shape import Basis, Shape
from vlcheck.model.family import Family, Values
from vlcheck.spec import Data

TEMPLATE, SUPERVISED, GRAIN = 32, 16, 64
"""Tokens of the chat template and of an answer; rows are rounded up to multiples of the last."""
MODELLED = ("image", "text")
"""Modalities that a synthetic batch can hold."""


def shape_of(data: Data, family: Family, config: Values, *, rows: int, tokens: int | None = None,
             soft_tokens: int | None = None, images: int | None = None,
             answer: int | None = None) -> Shape:  # fmt: skip
    """The shape of a run's micro-batch as its description tells it, whatever its rows are.

    With `data.max_length` it is the worst case: every row as long as the limit allows.

    Args:
        config: the model's config, as `transformers_config(...).to_dict()` gives it.
        rows: micro-batch.
        tokens, soft_tokens: length of a row and soft tokens of an image, where the caller knows them better.
        images, answer: images of a row and supervised tokens, likewise.

    Raises:
        Unavailable: for a model whose processor is not described, video or audio, or rows that cannot hold their
            images.
    """
    check_modalities(data)
    count = int("image" in data.modalities) if images is None else images
    said = answer or SUPERVISED
    wanted = soft_tokens or data.max_soft_tokens
    soft, guess = family.soft_tokens(config, wanted) if family.soft_tokens else (wanted or 1, "")
    assumed = [guess] if guess and count else []
    body = count * len(layout_of(family, config, soft, torch.device("meta")).ids)
    words = -(-len(data.instruction or "") // 3)
    length = -(-(body + words + TEMPLATE + said) // GRAIN) * GRAIN
    limit, basis = data.max_length, Basis.GIVEN
    if tokens is None and limit is not None:
        length, basis = limit, Basis.LIMIT
        assumed.append(f"rows of max_length ({limit} tokens), the worst case, each with {_images(count)} and "
                       f"{said} supervised tokens")  # fmt: skip
    elif tokens is None:
        basis = Basis.ASSUMED
        assumed.append(
            f"rows of {length} tokens: {body} of {_images(count)}, {words} of the instruction, {TEMPLATE} of the "
            f"template, {said} of the answer, rounded up to {GRAIN}"
        )
    try:
        return Shape(rows=rows, tokens=tokens or length, soft_tokens=soft, images=count, supervised=said,
                     assumptions=tuple(assumed), basis=basis)  # fmt: skip
    except ValueError as impossible:
        raise Unavailable(str(impossible)) from impossible


def check_modalities(data: Data) -> None:
    """Refuse what a synthetic batch cannot hold; video is never taken for text.

    Raises:
        Unavailable: for a run with video or audio.
    """
    if other := [each for each in data.modalities if each not in MODELLED]:
        raise Unavailable(
            f"rows with {' and '.join(other)} have no memory model; only {' and '.join(MODELLED)} do",
            "measure it with `vlcheck probe` on a GPU",
        )


def _images(count: int) -> str:
    return "no image" if count == 0 else "one image" if count == 1 else f"{count} images"
