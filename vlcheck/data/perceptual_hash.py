"""Which images are the same, and which look the same, from a few bytes an image.

`fingerprint` keeps a hash of the pixels, for images that are equal, and two difference hashes: whether each
cell of a small grey thumbnail is brighter than its left neighbour. Re-encoding, resizing, a watermark or a
change of brightness turn few of these bits (measured in tests/data/test_perceptual_hash.py). The coarse one (8 x 8
cells) finds candidates; the fine one (16 x 16) must agree too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

COARSE_BITS = 7
"""Bits of 64 in which the coarse hashes of one picture may differ."""
FINE_BITS = 24
"""Bits of 256 in which the fine hashes may differ; of 441,330 pairs of pet photos the unlike differ in 34 and more."""
STEP = 2
"""Grey levels by which a cell must be brighter, so that noise in a flat area turns no bit."""
FEWEST_STEPS = 80
"""Pictures with fewer fine cells that differ from their neighbour are too plain: pages and drawings look alike."""


@dataclass(frozen=True)
class Fingerprint:
    """What is kept of an image: 48 bytes."""

    pixels: int
    coarse: int
    fine: bytes
    plain: bool
    """Too few contrasts to be told from others by its look."""


def fingerprint(image: Image) -> Fingerprint:
    """Reduce an RGB image to what tells whether another is the same or looks the same."""
    import numpy as np

    size = f"{image.width}x{image.height} ".encode()
    pixels = hashlib.blake2b(image.tobytes(), key=size, digest_size=8).digest()
    coarse, fine = _steps(image, 8), _steps(image, 16)
    return Fingerprint(
        int.from_bytes(pixels),
        int.from_bytes(np.packbits(coarse > STEP).tobytes()),
        np.packbits(fine > STEP).tobytes(),
        int((np.abs(fine) > 2 * STEP).sum()) < FEWEST_STEPS,
    )


def _steps(image: Image, cells: int) -> Any:
    """How much brighter each cell of the thumbnail is than its left neighbour."""
    import numpy as np
    from PIL.Image import Resampling

    small = image.resize((cells + 1, cells), Resampling.BOX).convert("L")
    return np.diff(np.asarray(small, np.int16), axis=1)


def alike(coarse_Q: Any, fine_Q: Any, coarse_N: Any, fine_N: Any) -> Iterator[tuple[int, int]]:
    """Yield index pairs of a query and a picture that look the same.

    Two hashes of 64 bits that differ in at most 7 agree in one of four 16-bit bands up to one bit, so each
    query is compared with the pictures in 4 x 17 of 4 x 65,536 buckets: 1 in 964 where hashes are spread
    evenly, never with all.

    Args:
        coarse_Q: uint64 coarse hashes of the queries; `coarse_N` those of the pictures.
        fine_Q: uint8 rows of 32, the fine hashes of the queries; `fine_N` those of the pictures.
    """
    import numpy as np

    near = np.array([0, *(1 << bit for bit in range(16))], np.uint64)
    found: set[tuple[int, int]] = set()
    for shift in map(np.uint64, (0, 16, 32, 48)):
        band_N = (coarse_N >> shift) & np.uint64(0xFFFF)
        order = np.argsort(band_N, kind="stable")
        starts = np.searchsorted(band_N[order], np.arange(65537, dtype=np.uint64))
        for query, coarse in enumerate(coarse_Q):
            buckets = (((coarse >> shift) & np.uint64(0xFFFF)) ^ near).astype(np.intp)
            members = np.concatenate([order[starts[b] : starts[b + 1]] for b in buckets])
            members = members[np.bitwise_count(coarse_N[members] ^ coarse) <= COARSE_BITS]
            if len(members):
                apart = np.bitwise_count(fine_N[members] ^ fine_Q[query]).sum(axis=1)
                found.update((query, int(member)) for member in members[apart <= FINE_BITS])
    yield from sorted(found)
