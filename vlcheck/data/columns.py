"""What a scan keeps of each row and image: columns of numbers, so that a million images fit a laptop.

A row with one image costs 94 bytes beside their names in UTF-8; the arrays' room to grow makes it about
140 bytes with names of 18 and 26 characters (measured by tests/benchmarks/scan_speed.py).
"""

from __future__ import annotations

import hashlib
from array import array
from typing import Any

from vlcheck.data.perceptual_hash import Fingerprint


class Names:
    """Strings by index, end to end in one buffer."""

    def __init__(self) -> None:
        self._text, self._ends = bytearray(), array("Q")

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        start = self._ends[index - 1] if index else 0
        return self._text[start : self._ends[index]].decode()

    def append(self, name: str) -> None:
        """Add a name; what UTF-8 cannot hold is shown as its escape."""
        self._text += name.encode("utf-8", "backslashreplace")
        self._ends.append(len(self._text))


class RowColumns:
    """Every row: split, name, and hashes of what is asked and answered."""

    def __init__(self) -> None:
        self.names = Names()
        self.split = array("B")
        self.prompt, self.answer = array("Q"), array("Q")

    def __len__(self) -> int:
        return len(self.names)

    def append(self, name: str, split: int, prompt: str, answer: str) -> None:
        """Add a row; an empty answer is one that is not known."""
        self.names.append(name)
        self.split.append(split)
        self.prompt.append(_hash(prompt))
        self.answer.append(_hash(answer) if answer else 0)


class PictureColumns:
    """Every image that could be decoded: its row, its size, and its fingerprint."""

    def __init__(self) -> None:
        self._titles = Names()
        self.row, self.width, self.height = array("I"), array("I"), array("I")
        self.pixels, self.coarse = array("Q"), array("Q")
        self.fine, self.plain = bytearray(), array("B")

    def __len__(self) -> int:
        return len(self.row)

    def append(self, row: int, title: str, size: tuple[int, int], seen: Fingerprint) -> None:
        """Add an image; `title` is empty where the row's name says all."""
        self._titles.append(title)
        self.row.append(row)
        self.width.append(size[0])
        self.height.append(size[1])
        self.pixels.append(seen.pixels)
        self.coarse.append(seen.coarse)
        self.fine += seen.fine
        self.plain.append(seen.plain)

    def title(self, index: int, rows: RowColumns) -> str:
        """What messages call an image: its row, and its own name where that says more."""
        return self._titles[index] or rows.names[self.row[index]]


def numbers(column: array[int] | bytearray, kind: str) -> Any:
    """A column as a numpy array, without a copy."""
    import numpy as np

    return np.frombuffer(column, kind) if len(column) else np.empty(0, kind)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())
