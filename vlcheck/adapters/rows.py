"""Rows of a stored tensor, a few at a time: what is done to a base of any size takes the memory of one piece.

A tensor of shape (a, b, ..., z) is read as rows of its last axis but for vectors, which are one column. Where the
axes in the middle matter, as those of convolutions do not and those of stacked experts do, the reader is told the
number of the first row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, BinaryIO

import torch

from vlcheck.adapters.safetensors import FLOATS, StoredTensor, refusal

PIECE_BYTES = 16 * 2**20


def dtype_of(tensor: StoredTensor) -> torch.dtype | None:
    """The number type, in torch, of a tensor that holds floating-point values; None for any other."""
    name = FLOATS.get(tensor.dtype)
    return None if name is None else getattr(torch, name)


def width(shape: tuple[int, ...], columns: int | None = None) -> int:
    """Values of one row of a tensor: all behind its first axis, or as many as are asked for."""
    return columns or max(1, math.prod(shape[1:]))


def rows_of(
    tensor: StoredTensor, stream: BinaryIO, *, columns: int | None = None, piece_bytes: int = PIECE_BYTES
) -> Iterator[tuple[int, torch.Tensor]]:
    """The rows of a tensor, in pieces: number of the first one, and values of shape (rows, columns) as they are stored.

    The same memory is lent for every piece.

    Args:
        stream: of the tensor's file, open to be read.
        columns: of a row; by default all that stands behind the first axis.

    Raises:
        ConfigError: if the file ends before the tensor does.
    """
    dtype = dtype_of(tensor)
    assert dtype is not None, tensor.dtype
    row_bytes = width(tensor.shape, columns) * dtype.itemsize
    rows = tensor.bytes // row_bytes
    step = max(1, piece_bytes // row_bytes)
    room = bytearray(min(step, rows) * row_bytes)
    stream.seek(tensor.start)
    for first in range(0, rows, step):
        count = min(step, rows - first)
        fill(stream, memoryview(room)[: count * row_bytes], tensor)
        yield first, torch.frombuffer(room, dtype=dtype, count=count * row_bytes // dtype.itemsize).view(count, -1)


def bytes_of(tensor: StoredTensor, stream: BinaryIO, *, piece_bytes: int = PIECE_BYTES) -> Iterator[memoryview]:
    """The bytes of a tensor, in pieces that share their memory.

    Raises:
        ConfigError: if the file ends before the tensor does.
    """
    room = memoryview(bytearray(min(piece_bytes, tensor.bytes)))
    stream.seek(tensor.start)
    for first in range(0, tensor.bytes, piece_bytes):
        piece = room[: min(piece_bytes, tensor.bytes - first)]
        fill(stream, piece, tensor)
        yield piece


def fill(stream: Any, piece: memoryview, tensor: StoredTensor) -> None:
    """Read as much as a piece holds.

    Raises:
        ConfigError: if there is less.
    """
    got = 0
    while got < len(piece):
        read = stream.readinto(piece[got:])
        if not read:
            raise refusal(tensor.file, "changed while it was read")
        got += read


def stored_bytes(values: torch.Tensor) -> memoryview:
    """The bytes of values, as a file holds them."""
    bytes_: Any = values.contiguous().view(torch.uint8).numpy()
    return memoryview(bytes_).cast("B")
