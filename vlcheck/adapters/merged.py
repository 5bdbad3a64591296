"""Is the adapter in the merged files? Both folders' tensors are held against base plus delta, from the files alone.

Nothing that wrote the files is asked: merged minus base must be the adapter's change, for each tensor that it changes,
within a unit in the last place of the stored number type, and every other tensor must be the base's byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

from vlcheck.adapters.changes import Change
from vlcheck.adapters.rows import bytes_of, dtype_of, rows_of
from vlcheck.adapters.safetensors import StoredTensor, open_regular, read_header

MOST_UNITS = 2.0
"""Units in the last place, of the base's value or the merged one, that a merged value may be off. One rounding takes
half of one; a merge that rounds its delta first takes one and a half."""


@dataclass(frozen=True)
class Target:
    """One changed tensor of a merged model."""

    key: str
    values: int
    off: int
    """Values that are further from base plus delta than `MOST_UNITS`."""
    units: float
    """The furthest, in units in the last place."""
    unchanged: bool
    """Every value is the base's, and one rounding would have changed some."""
    kept: float
    """Share of the delta that is in the file: merged minus base, projected on it; 1 where there is no delta."""
    possible: float
    """The same after one rounding of base plus delta: what is smaller than half a unit in the last place of the weight
    that it is added to is lost."""

    @property
    def right(self) -> bool:
        """It is base plus delta, as far as the number type goes."""
        return not self.off and not self.unchanged and self.kept >= self.possible / 2


@dataclass(frozen=True)
class Comparison:
    """A merged model against its base and an adapter."""

    targets: tuple[Target, ...]
    untouched: int
    """Tensors that are the base's byte for byte, as they should be."""
    faults: tuple[str, ...]
    """What speaks against it, a sentence each; none if the adapter is in it, and nothing else is."""

    @property
    def kept(self) -> float:
        """The least share of a delta that is in the file; 1 where nothing was changed."""
        return min((target.kept for target in self.targets), default=1.0)


def compare(
    base: Iterable[Path],
    merged: Iterable[Path],
    changes: Mapping[str, Change],
    tell: Callable[[int], None] = lambda read: None,
) -> Comparison:
    """Hold merged files against the base's and an adapter's changes; the files may be divided otherwise.

    Args:
        base, merged: safetensors files.
        changes: by key.
        tell: told the bytes of each of the base's tensors that was compared.

    Raises:
        ConfigError: if a file is damaged.
    """
    ours = {tensor.name: tensor for file in base for tensor in read_header(file)}
    theirs = {tensor.name: tensor for file in merged for tensor in read_header(file)}
    faults = [
        f"{len(names)} tensors {what}: {', '.join(names[:3])}"
        for names, what in (
            (sorted(ours.keys() - theirs.keys()), "of the base are not in it"),
            (sorted(theirs.keys() - ours.keys()), "are not the base's"),
            (sorted(k for k in ours.keys() & theirs.keys() if _form(ours[k]) != _form(theirs[k])),
             "have another shape or number type than the base's"),
        )
        if names
    ]  # fmt: skip
    targets: list[Target] = []
    touched: list[str] = []
    untouched = 0
    with ExitStack() as stack:
        streams = _Streams(stack)
        for key in sorted(ours.keys() & theirs.keys(), key=lambda key: (str(ours[key].file), ours[key].start)):
            one, other = ours[key], theirs[key]
            if _form(one) != _form(other):
                continue
            if change := changes.get(key):
                targets.append(_target(one, other, change, streams))
            elif _equal(one, other, streams):
                untouched += 1
            else:
                touched.append(key)
            tell(one.bytes)
    wrong = [target for target in targets if not target.right]
    if missing := [target.key for target in wrong if target.unchanged]:
        faults.append(
            f"the adapter is not in {len(missing)} of {len(targets)} tensors that it changes: {missing[0]} is the "
            "base's"
        )
    if others := [target for target in wrong if not target.unchanged]:
        worst = max(others, key=lambda target: (target.off / target.values, -target.kept))
        faults.append(
            f"{len(others)} of {len(targets)} changed tensors are not base plus delta: {worst.key} is off in "
            f"{worst.off:,} of {worst.values:,} values, by {worst.units:,.3g} units in the last place at most, and "
            f"holds {worst.kept:.0%} of the delta"
        )
    if touched:
        faults.append(f"{len(touched)} tensors that the adapter leaves alone are not the base's: {touched[0]}")
    return Comparison(tuple(targets), untouched, tuple(faults))


class _Streams:
    """Files that are opened once."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack, self._open = stack, dict[Path, BinaryIO]()

    def of(self, tensor: StoredTensor) -> BinaryIO:
        if tensor.file not in self._open:
            self._open[tensor.file] = self._stack.enter_context(open_regular(tensor.file))
        return self._open[tensor.file]


def _form(tensor: StoredTensor) -> tuple[str, tuple[int, ...]]:
    return tensor.dtype, tensor.shape


def _equal(one: StoredTensor, other: StoredTensor, streams: _Streams) -> bool:
    pieces = zip(bytes_of(one, streams.of(one)), bytes_of(other, streams.of(other)), strict=True)
    return all(mine == theirs for mine, theirs in pieces)


def _target(one: StoredTensor, other: StoredTensor, change: Change, streams: _Streams) -> Target:
    dtype = dtype_of(one)
    assert dtype is not None
    limits = torch.finfo(dtype)
    off, units, square, inner, rounded = 0, 0.0, 0.0, 0.0, 0.0
    same, moves = True, False
    columns = change.columns
    pairs = zip(
        rows_of(one, streams.of(one), columns=columns), rows_of(other, streams.of(other), columns=columns), strict=True
    )
    for (first, stored), (_, written) in pairs:
        wanted, base, merged = change.applied(stored, first), stored.float(), written.float()
        right = wanted.to(dtype)
        same, moves = same and torch.equal(written, stored), moves or not torch.equal(right, stored)
        unit = torch.maximum(wanted.abs(), base.abs()).clamp_(min=limits.smallest_normal)
        unit = unit.log2_().floor_().exp2_().mul_(limits.eps)
        away = (merged - wanted).abs_().div_(unit).nan_to_num_(nan=torch.inf)
        units = max(units, float(away.max()))
        off += int((away > MOST_UNITS).sum())
        delta = wanted - base  # in place it could be the adapter's own tensor
        inner += _product(merged - base, delta)
        rounded += _product(right.float() - base, delta)
        square += _product(delta, delta)
    kept, possible = (inner / square, rounded / square) if square else (1.0, 1.0)
    return Target(one.name, one.numel, off, units, same and moves, kept, possible)


def _product(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.dot(one.flatten(), other.flatten()))
