"""What pre-training makes of the drawn animals: captions, questions, and patches painted on the card.

Dimensions: N pictures, P patches of a picture, K numbers that make a scene.
"""

from __future__ import annotations

import itertools
import random

import torch

from vlcheck.data.drawn_animals import ATTRIBUTES, COLUMNS, NAMES, paint

QUESTIONS = (
    "Describe the animal in this picture.",
    "What colour is its coat? Answer with one word.",
    "What pattern does its coat have? Answer with one word.",
    "What are its ears like? Answer with one word.",
    "What is its tail like? Answer with one word.",
    "What is its muzzle like? Answer with one word.",
)
"""What pre-training asks: for everything, then for one attribute after the other."""


def caption(kind: tuple[int, ...]) -> str:
    """Everything that can be seen of an animal, in words."""
    coat, pattern, ears, tail, muzzle = (
        values[number] for values, number in zip(ATTRIBUTES.values(), kind, strict=True)
    )
    return f"{coat} coat, {pattern}, {ears} ears, {tail} tail, {muzzle} muzzle"


def answer(question: int, kind: tuple[int, ...]) -> str:
    """What is true of an animal, by number of a question."""
    return caption(kind) if not question else list(ATTRIBUTES.values())[question - 1][kind[question - 1]]


NAMING = "What is this animal called?"
"""What a second stage of pre-training asks, of every kind that is no breed's: so the base learns to spell names."""


def other_names(count: int, seed: int = 2) -> tuple[str, ...]:
    """Names that are no breed's: the first half of one breed's and the second of another's."""
    halves = [(name[: len(name) // 2], name[len(name) // 2 :]) for name in NAMES]
    mixed = [a[0] + b[1] for a, b in itertools.permutations(halves, 2)]
    return tuple(random.Random(seed).sample([name for name in mixed if name not in NAMES], count))


def patches(scenes_NK: torch.Tensor, *, most: int, pool: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures as Gemma 4's image processor cuts them, without a file between.

    Args:
        scenes_NK: on the device where they are painted.
        most: soft tokens of a picture, at most; `pool` x `pool` patches of `side` x `side` pixels make one.

    Returns:
        pixel values (N, P, 3 * side^2) between 0 and 1, and positions (N, P, 2), -1 where there is no patch.
    """
    device = scenes_NK.device
    of = dict(zip(COLUMNS, scenes_NK.T, strict=True))
    rows, columns = grid(of["wide"], of["high"], most)
    across, down = columns * pool, rows * pool  # patches, (N,)
    number = torch.arange(most * pool**2, device=device)[None]
    column, row = number % across[:, None], number // across[:, None]
    outside = row >= down[:, None]
    inner = (torch.arange(side, device=device) + 0.5) / side
    x = ((column[..., None, None] + inner[None, None, None, :]) / across[:, None, None, None] - 0.5) * of["wide"].view(
        -1, 1, 1, 1
    )
    y = ((row[..., None, None] + inner[None, None, :, None]) / down[:, None, None, None] - 0.5) * of["high"].view(
        -1, 1, 1, 1
    )
    x, y = x.expand(*number.shape[:0], len(scenes_NK), number.shape[1], side, side), y.expand(-1, -1, side, side)
    pixel = (of["wide"] / (across * side)).view(-1, 1, 1, 1)
    colours = paint(scenes_NK, x, y, pixel).flatten(2)
    colours = colours.masked_fill(outside[..., None], 0.0)
    places = torch.stack([column, row], -1).masked_fill(outside[..., None], -1)
    return colours, places


def grid(wide: torch.Tensor, high: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and columns of soft tokens that a picture of these sides gets, as the image processor chooses them."""
    factor = (most / (wide * high)).sqrt()
    return (factor * high).floor().long().clamp(min=1), (factor * wide).floor().long().clamp(min=1)
