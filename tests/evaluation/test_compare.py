"""`vlcheck compare`: the same rows, scored alike, and an exact test of who answers better."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlcheck.evaluation.compare import compare, comparison_document
from vlcheck.evaluation.files import DOCUMENT, PREDICTIONS, SCHEMA, begin, finish, line
from vlcheck.evaluation.scores import mcnemar, score
from vlcheck.processing.exact_match import matches
from vlcheck.spec import ConfigError

SETTINGS = {
    "model": "tiny", "adapter": None, "data": "shapes", "split": "test", "normalisation": "stated",
    "instruction": "Which?", "max_soft_tokens": 70, "max_new_tokens": 12, "quantization": None,
}  # fmt: skip


def write(folder: Path, answers: dict[str, str], expected: str = "red", **settings: Any) -> Path:
    """An evaluation of rows that all expect one label, and of one more that expects another."""
    stated = {**SETTINGS, **settings}
    folder.mkdir()
    begin(folder, stated)
    labels = {name: "blue" if name.startswith("b") else expected for name in answers}
    counts = {"prompt_tokens": 9, "new_tokens": 3, "ended": True}
    rows = [
        {"row": number, "name": name, "expected": labels[name], "answer": answer, **counts,
         "correct": matches(answer, labels[name])}
        for number, (name, answer) in enumerate(answers.items())
    ]  # fmt: skip
    (folder / PREDICTIONS).write_text("".join(map(line, rows)))
    scores = score([row["expected"] for row in rows], [row["answer"] for row in rows])
    finish(folder, {"schema": SCHEMA, "n": scores.n, "macro_f1": scores.macro_f1, "settings": stated})
    return folder


def rows(right: str, names: str = "abcdefgh") -> dict[str, str]:
    """Answers to rows of these names, right where the name is among `right`."""
    return {name: ("blue" if name == "b" else "red") if name in right else "no" for name in names}


def test_a_comparison(vlcheck, tmp_path):
    """Accuracies, the table of four, the difference and its test, the classes that changed."""
    write(tmp_path / "base", rows("ab"))
    write(tmp_path / "tuned", rows("acdefgh"), adapter={"folder": "out/adapter", "sha256": "0"})
    code, out, err = vlcheck("compare", "base", "tuned")

    assert (code, err) == (0, "")
    assert out == (
        "A  25.0% (95% interval 7.1% to 59.1%), 2 of 8 rows  base/evaluation.json\n"
        "B  87.5% (95% interval 52.9% to 97.8%), 7 of 8 rows  tuned/evaluation.json\n"
        "\n"
        "         B right  B wrong\n"
        "A right        1        1\n"
        "A wrong        6        0\n"
        "\n"
        "B - A  +62.5 points (95% interval +0.0 to +100.0), McNemar's exact p = 0.125\n"
        "B lost most    -1 of 1  blue\n"
        "B gained most  +6 of 7  red\n"
        "\n"
        "compared: adapter none and out/adapter\n"
    )


def test_the_same_for_programs(vlcheck, tmp_path):
    """The document holds what the text says."""
    write(tmp_path / "a", rows("ab"))
    write(tmp_path / "b", rows("acdefgh"))
    code, out, _ = vlcheck("compare", "a/evaluation.json", "b", "--format", "json")
    document = json.loads(out)

    assert code == 0
    assert document == comparison_document(compare(Path("a"), Path("b")))
    assert [document[key] for key in ("both", "first_only", "second_only", "neither")] == [1, 1, 6, 0]
    assert document["p"] == pytest.approx(mcnemar(1, 6))


def test_rows_are_paired_by_name(vlcheck, tmp_path):
    """Their order does not matter, names that repeat are paired in order, and the rest is counted."""
    one = write(tmp_path / "a", rows("acd", "acd"))
    other = write(tmp_path / "b", rows("ca", "dcaef"))
    found = compare(one, other)

    assert (found.paired.n, found.paired.both, found.paired.first_only) == (3, 2, 1)
    assert found.warnings == (f"2 of 5 rows of {other} are not in the other and left out",)
    assert found.paired.interval.low < found.paired.difference < 0


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({"instruction": "What?"}, "instruction differs: 'Which?' and 'What?'"),
        ({"max_soft_tokens": None}, "max_soft_tokens differs: 70 and none"),
        ({"max_new_tokens": 20}, "max_new_tokens differs: 12 and 20"),
        ({"quantization": {"load_in_4bit": True}}, "quantization differs: none and {'load_in_4bit': True}"),
    ],
)
def test_what_changes_answers_besides_is_a_warning(vlcheck, tmp_path, settings, warned):
    """A baseline that was made otherwise is told from a fair one."""
    write(tmp_path / "a", rows("ab"))
    write(tmp_path / "b", rows("abc"), **settings)
    code, out, _ = vlcheck("compare", "a", "b")

    assert code == 0
    assert out.endswith(f"warning: {warned}\n")


@pytest.mark.parametrize("settings", [{"split": "train"}, {"normalisation": "lenient"}, {"data": "other"}])
def test_what_cannot_be_compared(vlcheck, tmp_path, settings):
    """Other rows or another metric: no number is given."""
    write(tmp_path / "a", rows("ab"))
    write(tmp_path / "b", rows("abc"), **settings)
    code, out, err = vlcheck("compare", "a", "b")

    assert (code, out) == (2, "")
    assert err.startswith(f"error: b:1:1: has {next(iter(settings))} ")
    assert err.count("\n") == 1


def test_no_row_in_common(tmp_path):
    """A row that expects another answer is another row."""
    one = write(tmp_path / "a", rows("c", "cd"))
    other = write(tmp_path / "b", rows("c", "cd"), expected="green")

    with pytest.raises(ConfigError, match="shares no row with"):
        compare(one, other)


def test_what_is_no_evaluation(vlcheck, tmp_path):
    """Missing, unfinished, foreign or damaged: one line each."""
    whole = write(tmp_path / "a", rows("ab"))
    begun = write(tmp_path / "begun", rows("ab"))
    (begun / DOCUMENT).unlink()
    torn = write(tmp_path / "torn", rows("ab"))
    (torn / PREDICTIONS).write_text((torn / PREDICTIONS).read_text()[:-5])
    (tmp_path / "foreign.json").write_text('{"schema": "mine"}')

    for path, complaint in [
        ("nowhere", "holds no evaluation.json; name a folder that `vlcheck evaluate` wrote"),
        ("begun", "holds an evaluation that was interrupted; run `vlcheck evaluate` again"),
        ("torn", "counts 8 rows, and predictions.jsonl beside it has 7"),
        ("foreign.json", "is no evaluation of vlcheck's; expected: schema vlcheck.evaluation.run/1"),
    ]:
        code, out, err = vlcheck("compare", whole, path)

        assert (code, out) == (2, "")
        assert err.endswith(f"{complaint}\n")
        assert err.count("\n") == 1
