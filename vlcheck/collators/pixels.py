"""What a collator does to images: held against the processor's own tensors, and against those of known mistakes.

Two rows with two images each, all of different sizes, are collated. Where the collator's pixels differ from the
processor's, the processor is run again as each known mistake would have it run; the one whose pixels come out alike
is the cause. Where none does, nothing is said but that they differ.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from vlcheck.collators.batch import Candidate, readable
from vlcheck.collators.order import order_of
from vlcheck.collators.probes import picture
from vlcheck.collators.regions import map_tokens
from vlcheck.data.conversation import BadRow, Conversation, Picture, Turn
from vlcheck.data.images import open_picture
from vlcheck.processing.collator import Batch, Collator

ALIKE = 1e-3
"""Largest difference of two pixels that is rounding (bfloat16 keeps three digits; they are compared as floats)."""
SIZES = (((96, 64), (160, 64)), ((64, 128), (112, 80)))
"""Of the images of two rows."""

Alter = Callable[[Sequence[Conversation]], Sequence[Conversation]]


@dataclass(frozen=True)
class ImageFaults:
    """What was found about a collator's images; each part is one sentence, empty if there is nothing to say."""

    compared: int = 0
    """Images that were held against the processor's."""
    misplaced: str = ""
    altered: str = ""
    grid: str = ""
    settings: str = ""
    """The images were made with other settings than evaluation's processor has, or changed at random."""


def look_at_images(candidate: Candidate, collator: Collator) -> ImageFaults:
    """Compare the images of two rows with the processor's; with one image a row where it takes no more."""
    for images in (2, 1):
        rows = [_row(number, sizes[:images]) for number, sizes in enumerate(SIZES)]
        try:
            wanted, made = _whole(collator, rows), candidate.batch(rows)
        except Exception:  # a family or a collator that takes no two images; VLC225 and VLC228 say so
            continue
        if len(made["input_ids"]) == len(rows):
            order = order_of(readable(made), rows, wanted, collator, map_tokens(collator.template))
            held = [rows[number] for number in order] if order else rows
            return compare_images(made, held, collator, candidate)
    return ImageFaults()


def compare_images(
    made: Batch, rows: Sequence[Conversation], collator: Collator, candidate: Candidate
) -> ImageFaults:  # fmt: skip
    """Hold a batch's images against what the processor makes of the same rows.

    Args:
        made: the collator's batch of these rows.
        collator: ours over the processor.
        candidate: makes the batch again, to tell settings from chance.
    """
    return _compared(made, _tensors(collator, rows), rows, collator, candidate)


def _row(number: int, sizes: Sequence[tuple[int, int]]) -> Conversation:
    images = tuple(picture(size, 10 * number + place) for place, size in enumerate(sizes))
    asked, said = Turn("user", (*images, "Which is larger?")), Turn("assistant", (("The first", "The second")[number],))
    return Conversation((asked, said), f"probe, images of row {number + 1}")


def _whole(collator: Collator, rows: Sequence[Conversation]) -> Batch:
    return collator.tensors([row for conversation in rows for row in collator.template.rows(conversation)])


def _tensors(collator: Collator, rows: Sequence[Conversation]) -> Batch:
    """What the processor makes of the images of rows."""
    made = _whole(collator, rows)
    return {key: value for key, value in made.items() if value.shape[:2] != made["input_ids"].shape}


def _compared(
    made: Batch, wanted: Batch, rows: Sequence[Conversation], collator: Collator, candidate: Candidate
) -> ImageFaults:
    pixels = [key for key, value in wanted.items() if value.is_floating_point() and key in made]
    faults = ImageFaults(compared=sum(len(row.pictures) for row in rows) if pixels else 0)
    unlike = [key for key in pixels if not _alike(made[key], wanted[key])]
    if not unlike:
        return replace(faults, grid=_grid(made, wanted)) if pixels else faults
    mistake = _explained(made, pixels, rows, collator)
    if mistake is not None:
        part, sentence = mistake
        return replace(faults, misplaced=sentence) if part == "misplaced" else replace(faults, altered=sentence)
    return replace(faults, settings=_settings_differ(made, wanted, unlike[0], candidate, rows))


def _settings_differ(
    made: Batch, wanted: Batch, key: str, candidate: Candidate, rows: Sequence[Conversation]
) -> str:  # fmt: skip
    """In what the images differ where no known mistake explains it."""
    own, other = made[key], wanted[key]
    if own.shape != other.shape:
        return f"{key} has shape {tuple(own.shape)} where the processor makes {tuple(other.shape)}"
    if float(own.float().std()) == 0:  # one colour all over is VLC216's
        return ""
    if _random(candidate, rows, [key]):
        return f"{key} differs from call to call: images are changed at random"
    return f"{key} differs from the processor's by up to {float((own.float() - other.float()).abs().max()):.2g}"


def _explained(
    made: Batch, pixels: Sequence[str], rows: Sequence[Conversation], collator: Collator
) -> tuple[str, str] | None:
    """The known mistake whose pixels are the collator's: the part of the report, and what it says."""
    for part, sentence, alter, options in _mistakes(rows):
        try:
            with _settings(collator, options):
                other = _tensors(collator, alter(rows))
        except (BadRow, ValueError, AttributeError):
            continue
        if all(key in other and _alike(made[key], other[key]) for key in pixels):
            return part, sentence
    return None


def _mistakes(rows: Sequence[Conversation]) -> Iterator[tuple[str, str, Alter, Mapping[str, object]]]:
    """Known mistakes: part of the report, what it says, rows as the mistake has them, settings of the processor."""
    images = [list(row.pictures) for row in rows]
    if len(images[0]) > 1:
        reverse = [own[::-1] for own in images]
        yield "misplaced", "the images of a row stand in reverse order", _shown(reverse), {}
        first = [[own[0]] * len(own) for own in images]
        yield "misplaced", "a row's first image stands for all of its images", _shown(first), {}
    yield "misplaced", "the images of the first row stand in every row", _shown([images[0]] * len(images)), {}
    yield "misplaced", "the images of the last row stand in every row", _shown([images[-1]] * len(images)), {}
    every = [images[0][:1] * len(own) for own in images]
    yield "misplaced", "one image stands for all images of the batch", _shown(every), {}
    yield "misplaced", "rows have each other's images", _shown(images[::-1]), {}
    if len(images) > 2:
        yield "misplaced", "each row has the images of the row before it", _shown(images[-1:] + images[:-1]), {}
        yield "misplaced", "each row has the images of the row behind it", _shown(images[1:] + images[:1]), {}
    yield "misplaced", "all images of the batch stand in reverse order", _shown([own[::-1] for own in images[::-1]]), {}
    swapped = [[_channels_swapped(each) for each in own] for own in images]
    yield "altered", "the colour channels are swapped, blue for red", _shown(swapped), {}
    yield "altered", "the pixels are not normalised", list, {"do_normalize": False}
    raw = {"do_normalize": False, "do_rescale": False}
    yield "altered", "the pixels are neither scaled to 0..1 nor normalised", list, raw
    yield "altered", "the pixels are not scaled to 0..1 before they are normalised", list, {"do_rescale": False}
    yield "altered", "the pixels are scaled twice: divided by 255 and by 255 again", list, {"rescale_factor": 1 / 65025}


def _shown(images: Sequence[Sequence[Picture]]) -> Alter:
    """Rows that show these images in place of their own."""

    def altered(rows: Sequence[Conversation]) -> Sequence[Conversation]:
        made = []
        for row, own in zip(rows, images, strict=True):
            asked = replace(row.turns[0], content=(*own, row.turns[0].text))
            made.append(Conversation((asked, *row.turns[1:]), row.name))
        return made

    return altered


def _channels_swapped(image: Picture) -> Picture:
    from PIL import Image

    return Picture(Image.merge("RGB", open_picture(image).convert("RGB").split()[::-1]))


@contextmanager
def _settings(collator: Collator, options: Mapping[str, object]) -> Iterator[None]:
    """Give the image processor other settings for a while."""
    own = vars(collator.processor.image_processor)
    before = copy.copy(own)
    own.update(options)
    try:
        yield
    finally:
        own.clear()
        own.update(before)


def _random(candidate: Candidate, rows: Sequence[Conversation], keys: Sequence[str]) -> bool:
    """Whether other random numbers make other pixels."""
    first, *others = (candidate.batch(rows, seed) for seed in range(4))
    return any(not _alike(first[key], other[key]) for other in others for key in keys)


def _grid(made: Batch, wanted: Batch) -> str:
    """What is wrong with the keys that say how the pixels lie, where the pixels are the processor's."""
    for key, value in wanted.items():
        if value.is_floating_point() or key not in made or value.dim() != 2:
            continue
        own = made[key]
        if own.shape == value.shape and torch.equal(own, value):
            continue
        shown = f"{own.tolist()[:2]} where the processor has {value.tolist()[:2]}"
        if own.shape == value.shape and torch.equal(own[:, [*range(own.shape[1] - 2), -1, -2]], value):
            return f"height and width are swapped in {key}: {shown}"
        return f"{key} is {shown}, for the same pixels"
    return ""


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape:
        return False
    scale = max(1.0, float(other.float().abs().max())) if other.numel() else 1.0
    rounding = 1e-2 if one.dtype in (torch.bfloat16, torch.float16) else ALIKE
    return bool((one.float() - other.float()).abs().max() <= rounding * scale) if one.numel() else True
