"""A synthetic micro-batch of a model at full size: what the processor and the collator would hand to it.

Shapes, number types and positions are those of real batches; pixels and words are arbitrary. How a processor presents
an image is said by its family's record.
"""

from __future__ import annotations

import itertools

import torch

from vlcheck.finding import Unavailable
from vlcheck.memory.shape import Shape
from vlcheck.model import families
from vlcheck.model.family import Family, ImageLayout, Values
from vlcheck.processing.collator import Batch
from vlcheck.processing.labels import IGNORE_INDEX

FIRST = 5
"""Id that begins a row."""
WORDS = 20
"""Different ids that a row's words take turns in."""


def make_batch(family: Family, config: Values, shape: Shape, *, pixels: str | torch.device = "cpu") -> Batch:
    """A batch of this shape, its labels included.

    Args:
        config: the model's config, as `transformers_config(...).to_dict()` gives it.
        pixels: where images are; on meta they take no memory.

    Returns:
        Tensors by key: `input_ids`, `attention_mask` and `labels` of shape (rows, tokens), int64, and what the
        family's processor adds.

    Raises:
        Unavailable: for a family whose processor is not described, or an image that it cannot give.
    """
    layout = layout_of(family, config, shape.soft_tokens, torch.device(pixels))
    if shape.images > 1 and not layout.several:
        raise Unavailable(f"{family.name}'s processor is described for one image a row")
    body = [id_ for _ in range(shape.images) for id_ in layout.ids]
    words = shape.tokens - len(body)
    if words < shape.supervised + 1:
        raise Unavailable(f"{shape.tokens} tokens do not hold the ids of {shape.images} images ({len(body)}) and "
                          f"{shape.supervised} supervised tokens")  # fmt: skip
    ids = torch.tensor([_row(shape, layout, row) for row in range(shape.rows)])
    labels = torch.full_like(ids, IGNORE_INDEX)
    mask = torch.ones_like(ids)
    if shape.padded:
        mask[1:, -1] = 0
    for row in range(shape.rows):
        answer = shape.supervised_of(row)
        labels[row, -answer:] = ids[row, -answer:]
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    if layout.types:
        batch[layout.types] = (ids == layout.soft).long()
    return batch | _image_tensors(layout, shape) if shape.images else batch


def _row(shape: Shape, layout: ImageLayout, row: int) -> list[int]:
    body = [id_ for _ in range(shape.images_of(row)) for id_ in layout.ids]
    return [FIRST, *body, *_words(shape.tokens - 1 - len(body), layout)]


def layout_of(family: Family, config: Values, soft_tokens: int, device: torch.device) -> ImageLayout:
    """How a family's processor presents one image.

    Raises:
        Unavailable: if the family's record does not say, or for an image that it cannot give.
    """
    if family.image_layout is None:
        raise Unavailable(f"vlcheck does not know what the processor of {config['model_type']} hands to the model; "
                          f"known: {', '.join(families.described())}")  # fmt: skip
    return family.image_layout(config, soft_tokens, device)


def _words(count: int, layout: ImageLayout) -> list[int]:
    """Ids of text: none of them stands for a part of an image."""
    plain = itertools.islice((id_ for id_ in itertools.count(FIRST + 1) if id_ not in {*layout.ids}), WORDS)
    return list(itertools.islice(itertools.cycle(list(plain)), count))


def _image_tensors(layout: ImageLayout, shape: Shape) -> Batch:
    """What the images of all rows add to a batch; where each row has its own, they are padded to the fullest."""
    found: Batch = {}
    whole = shape.rows * shape.images
    count = whole if layout.per_row else sum(map(shape.images_of, range(shape.rows)))
    for name, tensor in layout.tensors.items():
        many = tensor.repeat(count, *[1] * (tensor.dim() - 1))
        found[name] = many.unflatten(0, (shape.rows, -1)) if layout.per_row else many  # type: ignore[no-untyped-call]
    first = 1 + len(layout.ids) * torch.arange(shape.images)
    after = (torch.arange(shape.tokens)[:, None] >= first)[None, :, :, None]
    for name, tensor in layout.per_token.items():
        found[name] = (after * tensor).repeat(shape.rows, 1, 1, 1)
    return found
