"""How fast labels are derived and judged. Run: `python -m tests.benchmarks.label_speed`.

Times are of this machine; the ratios, taken in the same run, say more: label derivation against a plain Python scan
of the same ids, and the audit of rows against the processor's own time on them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from vlcheck.collators.batch import Candidate
from vlcheck.collators.judge import judge
from vlcheck.collators.probes import picture
from vlcheck.data.conversation import Conversation, Turn
from vlcheck.model import catalogue
from vlcheck.model.families.gemma4 import FAMILY
from vlcheck.processing.collator import Collator
from vlcheck.processing.fallback import build_fallback
from vlcheck.processing.labels import IGNORE_INDEX, Span, label_answers

ROWS, TOKENS, TURNS = 8, 3000, 6
TURN, MODEL, NEWLINE, END = 105, 4368, 107, 106
AUDITED = 1000


def batch() -> tuple[torch.Tensor, list[Span]]:
    """Eight rows of 3,000 ids, six answers of forty ids in each."""
    ids = torch.randint(200, 250_000, (ROWS, TOKENS), generator=torch.Generator().manual_seed(0))
    spans = []
    for row in range(ROWS):
        for turn in range(TURNS):
            at = 400 + turn * 420 + row
            ids[row, at : at + 3] = torch.tensor([TURN, MODEL, NEWLINE])
            ids[row, at + 43] = END
            spans.append(Span(row, turn, (TURN, MODEL, NEWLINE), 0))
    return ids, spans


def plain_scan(ids: torch.Tensor) -> torch.Tensor:
    """The same labels, id by id in Python."""
    labels = torch.full_like(ids, IGNORE_INDEX)
    for row, values in enumerate(ids.tolist()):
        inside = False
        for at, value in enumerate(values):
            if inside:
                labels[row, at] = value
                inside = value != END
            elif at >= 3 and values[at - 3 : at] == [TURN, MODEL, NEWLINE]:
                labels[row, at], inside = value, value != END
    return labels


def milliseconds(work: Callable[[], object], times: int) -> float:
    """Median of several runs."""
    work()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken)


def main() -> None:
    ids, spans = batch()
    ours = lambda: label_answers(ids, spans, anchor=(TURN,), end=END)  # noqa: E731
    assert torch.equal(ours(), plain_scan(ids))
    fast, plain = milliseconds(ours, 50), milliseconds(lambda: plain_scan(ids), 5)
    print(
        f"labels of {ROWS} rows of {TOKENS} ids: {fast:.2f} ms; plain Python scan {plain:.1f} ms, {plain / fast:.0f}x"
    )

    collator = Collator(build_fallback(FAMILY, catalogue.lookup("google/gemma-4-31B-it").config), FAMILY.dialogue)
    image = picture((256, 192))
    rows = [
        Conversation((Turn("user", (image, f"Which breed is number {n}?")), Turn("assistant", ("Abyssinian",))), f"{n}")
        for n in range(AUDITED)
    ]
    start = time.perf_counter()
    for first in range(0, AUDITED, 4):
        collator.tensors(
            [row for conversation in rows[first : first + 4] for row in collator.template.rows(conversation)]
        )
    processor = time.perf_counter() - start
    start = time.perf_counter()
    checks = judge(Candidate(collator, "vlcheck's collator", ours=True), collator, rows)
    whole = time.perf_counter() - start
    assert len(checks.of("data")) == AUDITED
    assert all(row.correct for row in checks.rows)
    print(
        f"audit of {AUDITED} rows: {whole:.1f} s, of which the processor's own {processor:.1f} s a pass; "
        f"{whole - processor:.1f} s beyond one pass"
    )


if __name__ == "__main__":
    main()
