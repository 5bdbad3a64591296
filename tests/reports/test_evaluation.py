"""How an evaluation of many classes looks on a terminal."""

from __future__ import annotations

from vlcheck.reports.evaluation import MOST_CONFUSIONS, render_evaluation

LABELS = [f"breed {number:02}" for number in range(37)]

DOCUMENT = {
    "n": 370, "correct": 333, "accuracy": 0.9, "interval": [0.865, 0.927], "macro_f1": 0.9, "no_label": 2, "cut_off": 1,
    "classes": [
        {"label": label, "n": 10, "correct": 10 - number % 3, "answered": 10, "precision": None if number == 5 else 0.9,
         "recall": 0.9, "f1": 1 - number / 100}
        for number, label in enumerate(LABELS)
    ],
    "confusion": [
        *({"expected": label, "answered": label, "rows": 9} for label in LABELS),
        *({"expected": label, "answered": "breed 00", "rows": number} for number, label in enumerate(LABELS[1:], 1)),
        {"expected": "breed 01", "answered": None, "rows": 40},
    ],
    "quarantined": [{"row": number, "name": f"row\\x1b{number}", "problem": "no such file"} for number in range(12)],
    "notes": ["only the first 370 rows"], "seconds": 12.0, "rows_per_second": 30.8, "batch_size": 8,
    "settings": {"model": "a/model", "adapter": {"folder": "out/adapter"}, "split": "test", "max_new_tokens": 12},
}  # fmt: skip


def test_many_classes():
    """The worst classes come first; of a large confusion the most frequent errors are shown."""
    lines = render_evaluation(DOCUMENT, "out/evaluation").splitlines()
    head = lines.index(next(line for line in lines if line.startswith("label")))
    errors = lines.index(next(line for line in lines if line.startswith("rows")))

    assert lines[:5] == [
        "a/model with out/adapter, split test",
        "accuracy 90.0% (95% interval 86.5% to 92.7%), 333 of 370 rows",
        "macro-F1 0.900 over 37 labels",
        "2 answers are no label of the split",
        "1 answers were cut off at 12 tokens",
    ]
    assert [line[:8] for line in lines[head + 1 : head + 38]] == LABELS[::-1]
    assert lines[errors + 1].split() == ["40", "breed", "01", "(no", "label)"]
    assert lines[errors + 2].split() == ["36", "breed", "36", "breed", "00"]
    assert lines[errors + 1 + MOST_CONFUSIONS] == f"... and {37 - MOST_CONFUSIONS} more in evaluation.json"
    assert "12 rows could not be read and are not counted:" in lines
    assert lines[-3:] == [
        "... and 2 more in evaluation.json",
        "note: only the first 370 rows",
        "written to out/evaluation",
    ]


def test_nothing_moves_the_cursor():
    """Control characters of names and labels are shown as escapes; colour only where it is asked for."""
    hostile = {**DOCUMENT, "classes": [{**DOCUMENT["classes"][0], "label": "\x1b[2J[red]x"}]}

    assert "\x1b" not in render_evaluation(hostile, "out")
    assert "\\x1b[2J[red]x" in render_evaluation(hostile, "out")
    assert "\x1b[1m" in render_evaluation(DOCUMENT, "out", color=True)
