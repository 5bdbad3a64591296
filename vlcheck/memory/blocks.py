"""The blocks of memory that a simulated step holds, written to a tape as they come and go."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from vlcheck.memory.tape import Tape


@dataclass
class Blocks:
    """Storages by their address, each a block of the tape while it lives."""

    tape: Tape = field(default_factory=Tape)
    live: dict[int, int] = field(default_factory=dict)
    """Address of a storage to its block."""
    known: dict[int, weakref.ref[object]] = field(default_factory=dict)
    """Storages that are not this tape's: weights."""
    purpose: str = ""
    """While set, what every new block is for."""
    _watch: dict[int, weakref.ref[object]] = field(default_factory=dict)

    def know(self, tensors: Iterable[torch.Tensor]) -> None:
        """Leave these tensors' storages out, as long as they live."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            self.known[key] = weakref.ref(storage, lambda _, key=key: self.known.pop(key, None))  # type: ignore[misc]

    def hold(self, tensor: torch.Tensor, cause: str) -> None:
        """Follow a tensor's storage, unless it is followed already."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.live or key in self.known:
            return
        size = storage.nbytes()
        if not size:
            return
        self.live[key] = self.tape.allocate(size, self.purpose or cause)
        self._watch[key] = weakref.ref(storage, lambda _, key=key: self.drop(key))  # type: ignore[misc]

    def drop(self, key: int) -> None:
        """End the block of a storage that died, by its address; others are passed over."""
        block = self.live.pop(key, None)
        self._watch.pop(key, None)
        if block is not None:
            self.tape.release(block)

    def block_of(self, tensor: torch.Tensor) -> int | None:
        """Number of the block of a tensor's storage; None where it is not followed."""
        return self.live.get(tensor.untyped_storage()._cdata)

    def close(self) -> Tape:
        """Follow nothing any more; what lives stays on the tape."""
        self.live.clear()
        self._watch.clear()
        return self.tape

    @contextmanager
    def meant_for(self, purpose: str) -> Iterator[None]:
        """Charge new blocks to one cause, whatever makes them."""
        before, self.purpose = self.purpose, purpose
        yield
        self.purpose = before

    def flash(self, size: int, cause: str) -> None:
        """Memory in bytes that an operation takes and gives back at once."""
        self.tape.release(self.tape.allocate(size, cause))

    @contextmanager
    def while_held(self, *sizes: int, cause: str) -> Iterator[None]:
        """Memory in bytes, block by block, that an operation takes while it makes its results."""
        taken = [self.tape.allocate(size, cause) for size in sizes]
        yield
        for block in taken:
            self.tape.release(block)
