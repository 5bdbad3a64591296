"""Image files as they were when a run decoded them: one that has changed since is noticed when it is decoded again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from safetensors import SafetensorError

from vlcheck.data.conversation import Conversation
from vlcheck.training.checkpoint import Checkpoint
from vlcheck.training.manifest import read_manifest
from vlcheck.training.snapshot import StateMismatch
from vlcheck.training.watch import RunStopped

SEEN = "pictures.safetensors"
"""File of a checkpoint: eight bytes a row."""
_KEY = "rows"


class Pictures:
    """What the image files of each row were when they were decoded.

    A run's identity knows a file by size, head and tail; here the whole of it counts.

    Args:
        rows: of the training split, in its order; none for a stream, whose rows are told in full as they are read.
    """

    def __init__(self, rows: Sequence[Conversation]) -> None:
        self._rows, self._seen = rows, torch.zeros(len(rows), dtype=torch.int64)
        self._new: dict[int, int] = {}

    def note(self, digests: Iterable[tuple[int, int]]) -> None:
        """Take in what was decoded: a row's number, and the digest of its image files.

        Raises:
            RunStopped: if a row's files are others than before, by its name.
        """
        for row, digest in digests:
            if (before := int(self._seen[row])) not in (0, digest):
                raise RunStopped(
                    f"{self._rows[row]}: its image is not the one that the run was trained on before, though its size "
                    "and its ends are: put it back, or choose another training.output_dir"
                )
            if not before:
                self._seen[row] = self._new[row] = digest

    def taken(self) -> dict[int, int]:
        """What was decoded for the first time since the last call."""
        found, self._new = self._new, {}
        return found

    def merge(self, others: Iterable[Mapping[int, int]]) -> None:
        """Know what other processes have decoded."""
        for each in others:
            for row, digest in each.items():
                self._seen[row] = digest

    def files(self) -> dict[str, dict[str, torch.Tensor]]:
        """For a checkpoint: a tensor of its own, shape (rows,), 0 for a row not yet decoded; none without files."""
        return {SEEN: {_KEY: self._seen.clone()}} if self._seen.any() else {}

    def take_up(self, checkpoint: Checkpoint) -> None:
        """Go on from what a checkpoint holds; one of a version that kept nothing is passed over.

        Raises:
            StateMismatch: if it tells of other rows.
        """
        if SEEN not in read_manifest(checkpoint.folder).files:  # a file that no manifest names may be a pipe
            return
        try:
            kept = checkpoint.tensors(SEEN)[_KEY]
            if (kept.dtype, kept.shape) != (self._seen.dtype, self._seen.shape):
                raise ValueError(f"{SEEN} holds {kept.dtype} of {list(kept.shape)}, not of {len(self._rows)} rows")
            self._seen = kept.clone()
        except (LookupError, ValueError, OSError, SafetensorError) as odd:
            raise StateMismatch(f"{checkpoint.folder} is no state of a run: {type(odd).__name__}: {odd}") from odd
