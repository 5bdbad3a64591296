"""Shards of a merged model: each is its base's shard byte for byte, but for the tensors that an adapter changes.

Header, order and names are copied as they lie, so that whatever reads the base reads the merged model: tied weights
stay tied, buffers of clip wrappers stay what they are, and what no adapter touches cannot change. A changed tensor is
read a few rows at a time, changed in fp32 and rounded once to its stored number type.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from vlcheck.adapters.changes import Change
from vlcheck.adapters.rows import PIECE_BYTES, bytes_of, dtype_of, rows_of, stored_bytes
from vlcheck.adapters.safetensors import StoredTensor, open_regular, read_header, refusal, shown

READABLE = 0o644


def write_shard(
    source: Path, target: Path, changes: Mapping[str, Change], tell: Callable[[int], None] = lambda written: None
) -> str:
    """Write one shard of the merged model; when this returns it is durable.

    Args:
        source: the base's shard.
        target: a file that is not there yet.
        changes: by the keys of the files; those of other shards are passed over.
        tell: told the bytes of each piece that was written.

    Returns:
        SHA-256 of what was written.

    Raises:
        ConfigError: if the base holds a value that is not a number, or the merged value of a finite one is infinite.
        OSError: if the disk refuses.
    """
    tensors = read_header(source)
    digest = hashlib.sha256()
    with open_regular(source) as stream, target.open("xb") as out:

        def write(piece: Any) -> None:
            digest.update(piece)
            out.write(piece)
            tell(len(piece))

        data = tensors[0].start if tensors else os.fstat(stream.fileno()).st_size
        write(stream.read(data))
        for tensor in tensors:
            if change := changes.get(tensor.name):
                for first, rows in rows_of(tensor, stream, columns=change.columns):
                    write(stored_bytes(_merged(tensor, rows, change, first)))
            else:
                for piece in bytes_of(tensor, stream):
                    _check_numbers(tensor, piece)
                    write(piece)
        out.flush()
        os.fsync(out.fileno())
    target.chmod(READABLE)
    return digest.hexdigest()


def fault_of(tensor: StoredTensor, change: Change) -> str:
    """Why a stored tensor cannot take a change; empty if it can."""
    dtype = dtype_of(tensor)
    if dtype is None or dtype.itemsize < 2:
        return f"is stored as {tensor.dtype}; a merge needs the base in 16 bits or more"
    if tensor.numel != change.numel:
        return f"has {tensor.numel} values in the base, and the adapter changes {change.numel}"
    return ""


def _merged(tensor: StoredTensor, rows: torch.Tensor, change: Change, first: int) -> torch.Tensor:
    if not rows.isfinite().all():
        raise refusal(tensor.file, f"holds values that are not finite in {shown(tensor.name)}, which would be changed")
    found = change.applied(rows, first).to(rows.dtype)
    if not found.isfinite().all():
        raise refusal(
            tensor.file, f"{shown(tensor.name)} and what the adapter adds to it are too large for {tensor.dtype}"
        )
    return found


def _check_numbers(tensor: StoredTensor, piece: memoryview) -> None:
    """Infinite values are left alone, for bounds may be infinite."""
    dtype = dtype_of(tensor)
    if dtype is None or dtype.itemsize < 2 or PIECE_BYTES % dtype.itemsize:
        return
    least, _ = torch.frombuffer(piece, dtype=dtype).aminmax()
    if least.isnan():
        raise refusal(tensor.file, f"holds values that are not a number in {shown(tensor.name)}")
