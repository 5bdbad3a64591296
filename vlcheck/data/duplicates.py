"""Images that come twice: in both splits, alike in both splits, or with two answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vlcheck.data.columns import numbers
from vlcheck.data.perceptual_hash import alike
from vlcheck.data.scan import Scan


@dataclass(frozen=True)
class Duplicates:
    """Index pairs of images; of two splits the evaluation's comes first."""

    same: tuple[tuple[int, int], ...]
    """Equal pixel for pixel, in both splits."""
    similar: tuple[tuple[int, int], ...]
    """Unequal, and the same picture to the eye, in both splits."""
    compared: int
    """Images of the evaluation split that were held against those of the training split."""
    plain: int
    """Of these, images with too few contrasts for a likeness to mean anything."""


def find_duplicates(scan: Scan) -> Duplicates:
    """Find every image of the evaluation split that is in the training split too."""
    pictures = scan.pictures
    pixels, coarse = numbers(pictures.pixels, "u8"), numbers(pictures.coarse, "u8")
    fine = numbers(pictures.fine, "u1").reshape(-1, 32)
    plain = numbers(pictures.plain, "u1").astype(bool)
    evaluated = numbers(scan.rows.split, "u1")[numbers(pictures.row, "u4")] == 1
    same = tuple(_equal(pixels, evaluated))
    known = {query for query, _ in same}
    queries = [int(i) for i in (evaluated & ~plain).nonzero()[0] if int(i) not in known]
    trained = (~evaluated & ~plain).nonzero()[0]
    pairs = alike(coarse[queries], fine[queries], coarse[trained], fine[trained])
    similar = tuple((queries[query], int(trained[member])) for query, member in pairs)
    return Duplicates(same, similar, int(evaluated.sum()), int((evaluated & plain).sum()))


def _equal(pixels: Any, evaluated: Any) -> Iterator[tuple[int, int]]:
    import numpy as np

    queries, trained = evaluated.nonzero()[0], (~evaluated).nonzero()[0]
    hashes, first = np.unique(pixels[trained], return_index=True)
    places = np.searchsorted(hashes, pixels[queries])
    for query, place in zip(queries, places, strict=True):
        if place < len(hashes) and hashes[place] == pixels[query]:
            yield int(query), int(trained[first[place]])


def contradictions(scan: Scan) -> tuple[tuple[int, int], ...]:
    """Pairs of rows that ask the same about the same image and answer otherwise."""
    import numpy as np

    prompt, answer = numbers(scan.rows.prompt, "u8"), numbers(scan.rows.answer, "u8")
    rows, pixels = numbers(scan.pictures.row, "u4"), numbers(scan.pictures.pixels, "u8")
    _, which, times = np.unique(rows, return_inverse=True, return_counts=True)
    alone = (times[which] == 1) & (answer[rows] != 0) if len(rows) else np.zeros(0, bool)
    rows, pixels = rows[alone], pixels[alone]
    order = np.lexsort((rows, answer[rows], prompt[rows], pixels))
    rows, pixels = rows[order], pixels[order]
    if len(rows) < 2:
        return ()
    one, other = rows[:-1], rows[1:]
    again = (pixels[:-1] == pixels[1:]) & (prompt[one] == prompt[other]) & (answer[one] != answer[other])
    return tuple((int(a), int(b)) for a, b in zip(one[again], other[again], strict=True))


def prompt_is_shared(scan: Scan, row: int) -> bool:
    """Whether another row has the same prompt and another answer: then the prompt cannot give one away."""
    prompt, answer = numbers(scan.rows.prompt, "u8"), numbers(scan.rows.answer, "u8")
    others = answer[prompt == prompt[row]]
    return bool(((others != answer[row]) & (others != 0)).any())
