"""Tensors of a safetensors file, described by its header alone; bytes are read only when asked for, in chunks.

The header comes from whoever made the file: nothing in it is believed before it was held against the
file's size. Layout: eight bytes of header length, the header as JSON, the tensors without a gap.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from vlcheck.spec import ConfigError, Location, Problem

LARGEST_HEADER_BYTES = 16 * 2**20
MOST_TENSORS = 30_000
LONGEST_NAME = 1000
CHUNK_BYTES = 4 * 2**20

BITS: Mapping[str, int] = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
FLOATS: Mapping[str, str] = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
                             "F8_E5M2": "float8_e5m2", "F8_E4M3": "float8_e4m3fn"}  # fmt: skip
"""Types whose values are looked at, with torch's names."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a file: what the header says of it, and where its bytes lie."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    """First byte, counted from the start of the file."""
    bytes: int

    @property
    def numel(self) -> int:
        """How many values it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Extent:
    """The least and the greatest value of a tensor; both NaN where it holds one."""

    least: float
    greatest: float

    @property
    def finite(self) -> bool:
        """No value is infinite or not a number."""
        return math.isfinite(self.least) and math.isfinite(self.greatest)

    @property
    def zero(self) -> bool:
        """Every value is zero."""
        return self.least == self.greatest == 0


def read_header(file: Path) -> tuple[StoredTensor, ...]:
    """Describe every tensor of a file, in the order of their bytes.

    Raises:
        ConfigError: if it is no regular file or no sound safetensors file; the message says what is wrong.
    """
    with open_regular(file) as stream:
        size = os.fstat(stream.fileno()).st_size
        length = int.from_bytes(stream.read(8), "little")
        if size < 8:
            raise refusal(
                file, f"is cut short: it has {size} bytes, and a safetensors file starts with 8 of header length"
            )
        if length > size - 8:
            raise refusal(file, f"is cut short, or no safetensors file: its header would have {length} bytes of {size}")
        if length > LARGEST_HEADER_BYTES:
            raise refusal(file, f"has a header of {length} bytes; at most {LARGEST_HEADER_BYTES} are read")
        text = stream.read(length)
    tensors = sorted(_described(file, _entries(file, text), 8 + length), key=lambda t: (t.start, t.bytes))
    end = 8 + length
    for tensor in tensors:
        if tensor.start != end:
            fault = "overlaps another tensor" if tensor.start < end else "leaves a gap before it"
            raise refusal(file, f"is damaged: tensor {shown(tensor.name)} {fault} at byte {tensor.start}")
        end += tensor.bytes
    if end != size:
        fault = "is cut short" if size < end else "has bytes that belong to no tensor"
        raise refusal(file, f"{fault}: its header describes {end} bytes, and it has {size}")
    return tuple(tensors)


def read_extents(tensors: Iterable[StoredTensor]) -> dict[str, Extent]:
    """Least and greatest value of each floating-point tensor that holds any, by name.

    Bytes are read in order and in chunks, so that memory does not grow with the file.

    Raises:
        ConfigError: if a file changed since its header was read.
    """
    import torch

    found: dict[str, Extent] = {}
    chunk = bytearray(CHUNK_BYTES)
    for file, stored in _by_file(tensor for tensor in tensors if tensor.dtype in FLOATS and tensor.numel):
        with open_regular(file) as stream:
            for tensor in stored:
                stream.seek(tensor.start)
                dtype = getattr(torch, FLOATS[tensor.dtype])
                least, greatest, left = math.inf, -math.inf, tensor.bytes
                while left and not math.isnan(least):
                    read = stream.readinto(memoryview(chunk)[: min(left, CHUNK_BYTES)])  # type: ignore[attr-defined]
                    if not read or read % dtype.itemsize:
                        raise refusal(file, "changed while it was read")
                    values = torch.frombuffer(chunk, dtype=dtype, count=read // dtype.itemsize)
                    low, high = (values.float() if dtype.itemsize == 1 else values).aminmax()
                    if math.isnan(low.item()):  # Python's min and max would forget it
                        least = greatest = math.nan
                    else:
                        least, greatest = min(least, low.item()), max(greatest, high.item())
                    left -= read
                found[tensor.name] = Extent(least, greatest)
    return found


def open_regular(file: Path) -> BinaryIO:
    """Open a regular file; whatever else lies there is refused unopened, for a pipe would keep us waiting.

    Raises:
        ConfigError: if there is none, or it cannot be read.
    """
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise refusal(file, "is no regular file")
        return file.open("rb")
    except OSError as error:
        raise refusal(file, f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise refusal(file, f"cannot be read: {error}") from None


def read_json(file: Path, text: bytes) -> object:
    """A JSON document whose objects have no key twice.

    Raises:
        ConfigError: if it is none.
    """
    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise refusal(file, "holds JSON that is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise refusal(file, f"holds JSON that is not UTF-8, at byte {error.start}") from None
    except ValueError as error:
        raise refusal(file, f"holds no sound JSON: {shown(str(error))}") from None


def refusal(file: Path, fault: str) -> ConfigError:
    """The error that gives a file up."""
    return ConfigError(Problem(Location(str(file)), fault))


def shown(text: str) -> str:
    """A name from a file, short enough for a message."""
    return text if len(text) <= 120 else f"{text[:117]}..."


def _entries(file: Path, text: bytes) -> dict[str, object]:
    if not text.startswith(b"{"):
        raise refusal(file, "is no safetensors file: its header is no JSON object")
    header = read_json(file, text)
    if not isinstance(header, dict):
        raise refusal(file, "is no safetensors file: its header is no JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise refusal(file, "is damaged: __metadata__ holds other things than text")
    if len(header) > MOST_TENSORS:
        raise refusal(file, f"holds {len(header)} tensors; an adapter of at most {MOST_TENSORS} is read")
    return header


def _described(file: Path, entries: Mapping[str, object], data: int) -> Iterator[StoredTensor]:
    for name, entry in entries.items():
        if len(name) > LONGEST_NAME:
            raise refusal(file, f"is damaged: a tensor has a name of {len(name)} characters")
        match entry:
            case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [start, end]} if _counts(
                [*shape, start, end]
            ):
                pass
            case _:
                raise refusal(file, f"is damaged: tensor {shown(name)} lacks a sound dtype, shape or data_offsets")
        if dtype not in BITS:
            raise refusal(file, f"is damaged: tensor {shown(name)} has the unknown dtype {shown(dtype)}")
        bits = _product(shape) * BITS[dtype]
        if start > end or (end - start) * 8 != bits:
            raise refusal(
                file, f"is damaged: tensor {shown(name)} has {end - start} bytes, its shape takes {bits / 8:.4g}"
            )
        yield StoredTensor(name, dtype, tuple(shape), file, data + start, end - start)


def _counts(values: list[object]) -> bool:
    return len(values) < 16 and all(type(value) is int and 0 <= value < 2**63 for value in values)


def _product(shape: list[int]) -> int:
    return math.prod(shape)


def _by_file(tensors: Iterable[StoredTensor]) -> Iterator[tuple[Path, list[StoredTensor]]]:
    files: dict[Path, list[StoredTensor]] = {}
    for tensor in tensors:
        files.setdefault(tensor.file, []).append(tensor)
    yield from files.items()


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        raise ValueError(f"key {next(key for key, _ in pairs if key in seen or seen.add(key))!r} occurs twice")  # type: ignore[func-returns-value]
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")
