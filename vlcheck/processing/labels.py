"""The law of labels: which ids of an expanded row are trained. Pure tensors; no processor, no text.

Dimensions: B rows, T tokens of the longest row, N answers of all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

IGNORE_INDEX = -100
"""Label of an id that is not trained, as torch's cross entropy has it."""


@dataclass(frozen=True)
class Span:
    """One answer to find in the ids of a batch."""

    row: int
    rank: int
    """Anchors before the one that introduces it."""
    header: tuple[int, ...]
    """Ids from the anchor's first up to the answer's first."""
    ends: int
    """End tokens inside the answer."""


def label_answers(ids_BT: torch.Tensor, spans: Sequence[Span], *, anchor: Sequence[int], end: int) -> torch.Tensor:
    """Labels that are the ids of the answers with their end tokens, and `IGNORE_INDEX` everywhere else.

    Each answer is found in the *expanded* ids: it begins behind the header at the anchor of its rank and goes
    through the first end token after the `ends` that it holds itself. Soft tokens lie between anchors and are
    never counted, so no image can move a label.

    Args:
        ids_BT: ids as the model gets them, images expanded; padding on either side.
        spans: the answers of all rows.
        anchor: ids that begin the header of every assistant turn; other text may hold them too.
        end: the id that ends a turn.

    Returns:
        (B, T), of the type of `ids_BT`.

    Raises:
        LabelLost: if a span's anchor, header or end token is not where it should be.

    Example: with anchor (5,), end 6 and one span of rank 0 and header (5, 9), `[2, 5, 9, 7, 8, 6, 9]` gives
    `[-100, -100, -100, 7, 8, 6, -100]`.
    """
    length = ids_BT.shape[1]
    rows_N, rank_N, ends_N, skip_N = torch.tensor(
        [(span.row, span.rank, span.ends, len(span.header)) for span in spans]
    ).T
    anchor_N = _nth(matches(ids_BT, anchor), rows_N, rank_N)
    first_N = anchor_N + skip_N
    is_end_BT = ids_BT == end
    ends_before_N = torch.nn.functional.pad(is_end_BT.cumsum(1), (1, 0))[rows_N, first_N.clamp(max=length)]
    last_N = _nth(is_end_BT, rows_N, ends_before_N + ends_N)
    _check_found(ids_BT, spans, anchor_N, last_N)
    edges_BT = torch.zeros(len(ids_BT), length + 1, dtype=torch.int32)
    one_N = torch.ones_like(rows_N, dtype=torch.int32)
    edges_BT.index_put_((rows_N, first_N), one_N, accumulate=True)
    edges_BT.index_put_((rows_N, last_N + 1), -one_N, accumulate=True)
    return ids_BT.where(edges_BT.cumsum(1)[:, :-1] > 0, IGNORE_INDEX)


class LabelLost(Exception):
    """An answer is not among the ids where its row's text has it; `span` says which."""

    def __init__(self, span: Span, reason: str) -> None:
        super().__init__(reason)
        self.span = span


def matches(ids_BT: torch.Tensor, sequence: Sequence[int]) -> torch.Tensor:
    """Where a sequence of ids begins, (B, T)."""
    found_BT = ids_BT == sequence[0]
    for offset, wanted in enumerate(sequence[1:], 1):
        found_BT[:, :-offset] &= ids_BT[:, offset:] == wanted
        found_BT[:, -offset:] = False
    return found_BT


def _nth(marks_BT: torch.Tensor, rows_N: torch.Tensor, rank_N: torch.Tensor) -> torch.Tensor:
    """Position of the mark of each rank in its row; T where the row has too few."""
    length = marks_BT.shape[1]
    counts = marks_BT.cumsum(1) + (torch.arange(len(marks_BT)) * (length + 1))[:, None]
    found_N = torch.searchsorted(counts.flatten(), rows_N * (length + 1) + rank_N + 1)
    return (found_N - rows_N * length).clamp(max=length)


def _check_found(ids_BT: torch.Tensor, spans: Sequence[Span], anchor_N: torch.Tensor, last_N: torch.Tensor) -> None:
    """Hold every header against the ids: white space of an answer could have been cut together with it."""
    length = ids_BT.shape[1]
    for span, at, last in zip(spans, anchor_N.tolist(), last_N.tolist(), strict=True):
        if at >= length:
            raise LabelLost(span, "its header is not among the ids")
        if tuple(ids_BT[span.row, at : at + len(span.header)].tolist()) != span.header:
            raise LabelLost(span, "its first characters were cut into one token with its header")
        if last >= length:
            raise LabelLost(span, "its end token is not among the ids")
