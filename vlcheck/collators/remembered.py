"""What an image processor made of pictures before: a check shows the same few pictures to two collators, many times."""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from PIL import Image

ROOM_BYTES = 256 * 2**20
"""Pixels that are kept at once; the oldest leave first."""
PLAIN = (type(None), bool, int, float, str)


@contextmanager
def remembered(image_processor: Any) -> Iterator[None]:
    """Let an image processor hand out once more what it made of the same pictures, for a while.

    Its class is replaced by a subclass of the same name, so that settings which change on the way, and copies that are
    made of it, count as they did. One that remembers already is left as it is.
    """
    kind = type(image_processor)
    if getattr(kind.__call__, "remembers", False):
        yield
        return
    named = {"__module__": kind.__module__, "__doc__": kind.__doc__, "__call__": remembering(kind.__call__)}
    image_processor.__class__ = type(kind.__name__, (kind,), named)
    try:
        yield
    finally:
        image_processor.__class__ = kind


def remembering(process: Callable[..., Any]) -> Callable[..., Any]:
    """The call of an image processor, from memory where the very same pictures came under the same settings.

    Nothing of it can be told from the call itself: the key is the class, every attribute, every option and every
    pixel, and what is returned is a copy. Pictures that are still files, arrays and tensors are not remembered, nor is
    a call with an option that holds such.
    """
    held: dict[Any, Any] = {}

    @functools.wraps(process)
    def call(self: Any, images: Any, *rest: Any, **options: Any) -> Any:
        seen = pixels(images) if plain((rest, options)) else None
        if seen is None:
            return process(self, images, *rest, **options)
        key = (type(self), repr(sorted(vars(self).items())), seen, repr((rest, sorted(options.items()))), _device())
        made = held.get(key)
        if made is None:
            made = held[key] = process(self, images, *rest, **options)
            while sum(map(size_of, held.values())) > ROOM_BYTES:
                del held[next(iter(held))]
        return copy.deepcopy(made)

    call.remembers = True  # type: ignore[attr-defined]
    return call


def plain(value: Any) -> bool:
    """Whether a value is told by how it prints."""
    if isinstance(value, list | tuple):
        return all(map(plain, value))
    if isinstance(value, Mapping):
        return all(map(plain, value.values()))
    return isinstance(value, PLAIN)


def pixels(images: Any) -> Any:
    """What pictures in lists of lists show; nothing where one of them is no plain picture."""
    if isinstance(images, list | tuple):
        each = tuple(pixels(image) for image in images)
        return None if None in each else each
    if type(images) is not Image.Image or images.mode not in ("L", "RGB"):
        return None
    return images.mode, images.size, hashlib.blake2b(images.tobytes(), digest_size=16).digest()


def _device() -> str:
    """Where a tensor that is made now would lie: on meta while a model is built there."""
    import torch

    return str(torch.get_default_device())


def size_of(made: Any) -> int:
    """Bytes of what a processor returned."""
    return sum(_bytes(value) for value in made.values())


def _bytes(value: Any) -> int:
    return sum(map(_bytes, value)) if isinstance(value, list | tuple) else int(getattr(value, "nbytes", 0))
