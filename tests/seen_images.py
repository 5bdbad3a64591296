"""What image processors have made of pictures before: nearly every label test resizes the same few pictures."""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Callable
from typing import Any

from PIL import Image

ROOM_BYTES = 256 * 2**20
"""Pixels that are kept at once, a process; the oldest leave first."""


def remembering(process: Callable[..., Any]) -> Callable[..., Any]:
    """The call of an image processor, from memory where the very same pictures came under the same settings.

    Nothing of it can be told from the call itself: the key is the class, every attribute, every option and every
    pixel, and what is returned is a copy. Pictures that are still files, arrays and tensors are not remembered.
    """
    held: dict[Any, Any] = {}

    @functools.wraps(process)
    def call(self: Any, images: Any, *rest: Any, **options: Any) -> Any:
        if (seen := _pixels(images)) is None:
            return process(self, images, *rest, **options)
        key = (type(self), repr(sorted(vars(self).items())), seen, repr((rest, sorted(options.items()))), _device())
        made = held.get(key)
        if made is None:
            made = held[key] = process(self, images, *rest, **options)
            while sum(map(_size, held.values())) > ROOM_BYTES:
                del held[next(iter(held))]
        return copy.deepcopy(made)

    return call


def _pixels(images: Any) -> Any:
    """What pictures in lists of lists show; nothing where one of them is no plain picture."""
    if isinstance(images, list | tuple):
        each = tuple(_pixels(image) for image in images)
        return None if None in each else each
    if type(images) is not Image.Image or images.mode not in ("L", "RGB"):
        return None
    return images.mode, images.size, hashlib.blake2b(images.tobytes(), digest_size=16).digest()


def _device() -> str:
    """Where a tensor that is made now would lie: on meta while a model is built there."""
    import torch

    return str(torch.get_default_device())


def _size(made: Any) -> int:
    """Bytes of what a processor returned."""
    return sum(_bytes(value) for value in made.values())


def _bytes(value: Any) -> int:
    return sum(map(_bytes, value)) if isinstance(value, list | tuple) else int(getattr(value, "nbytes", 0))
