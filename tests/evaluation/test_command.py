"""`vlcheck evaluate` as a user runs it: what it prints, writes, refuses and takes up again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.evaluation.conftest import SHIPPED
from vlcheck.evaluation.files import CHART, DOCUMENT, PREDICTIONS, SETTINGS, WRONG

SMALL = ("eval_split: test", "eval_split: test\n  eval_samples: 5\n  train_samples: 12")
OUT = Path("tiny-shapes/evaluation-base")


def asked(vlcheck, *arguments) -> dict:
    code, out, err = vlcheck("evaluate", *arguments, "--format", "json")
    assert (code, err) == (0, "")
    return json.loads(out)


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / PREDICTIONS).read_text(encoding="utf-8").splitlines()]


def test_an_evaluation(vlcheck, config):
    """Scores on the terminal, everything in the folder, the settings stated."""
    code, out, err = vlcheck("evaluate", config(SMALL, model=SHIPPED))
    document = json.loads((OUT / DOCUMENT).read_text(encoding="utf-8"))

    assert (code, err) == (0, "")
    assert out.startswith(
        "vlcheck/tiny-gemma4 without an adapter, split test\n"
        "accuracy 0.0% (95% interval 0.0% to 43.4%), 0 of 5 rows\nmacro-F1 0.000 over 5 labels\n"
    )
    assert "expected \\ answered" in out
    assert "\x1b" not in out
    assert document["schema"] == "vlcheck.evaluation.run/1"
    assert (document["n"], document["correct"], document["quarantined"]) == (5, 0, [])
    assert document["settings"]["adapter"] is None
    assert document["settings"]["max_soft_tokens"] == 70
    assert document["settings"]["first_prompt"].startswith("<bos><|turn>user\n<|image|>Which colour")
    assert document["settings"]["versions"]["torch"]
    assert [row["name"] for row in lines(OUT)] == [f"test[{number}]" for number in range(5)]
    assert Image.open(OUT / CHART).format == "PNG"


def test_an_adapter(vlcheck, config, adapter):
    """It has a folder of its own by default, its hash in the document; --format json prints that."""
    code, out, err = vlcheck("evaluate", config(SMALL), "--adapter", adapter, "--limit", "2", "--format", "json")
    document = json.loads(out)

    assert (code, err) == (0, "")
    assert document == json.loads(Path("tiny-shapes/evaluation", DOCUMENT).read_text(encoding="utf-8"))
    assert len(document["settings"]["adapter"]["sha256"]) == 64
    assert document["n"] == 2
    assert "2 of the split's 5 rows were evaluated, every label in turn (--limit 2)" in document["notes"]


def test_an_interrupted_evaluation_is_taken_up(vlcheck, config):
    """Rows that were predicted stay; a line that was cut off is predicted again, and the rest is not lost."""
    file = config(SMALL, ("per_device_eval_batch_size: 40", "per_device_eval_batch_size: 2"))
    assert vlcheck("evaluate", file)[0] == 0
    whole = lines(OUT)
    marked = [{**whole[0], "answer": "red"}, whole[1]]
    (OUT / DOCUMENT).unlink()
    (OUT / PREDICTIONS).write_text("".join(json.dumps(row) + "\n" for row in marked) + json.dumps(whole[2])[:-9])
    code, out, _ = vlcheck("evaluate", file)

    assert code == 0
    assert "2 predictions are of an earlier run that was interrupted" in out
    assert lines(OUT) == [*marked, *whole[2:]]

    assert "earlier run" not in vlcheck("evaluate", file)[1]  # finished now, so it is begun anew
    assert lines(OUT) == whole


def test_other_settings_begin_anew(vlcheck, config):
    """Predictions under another instruction are not taken up."""
    file = config(SMALL)
    assert vlcheck("evaluate", file, "--limit", "2")[0] == 0
    (OUT / DOCUMENT).unlink()

    assert "earlier run" not in vlcheck("evaluate", file, "--limit", "2", "--max-new-tokens", "9")[1]


@pytest.mark.parametrize("name", [DOCUMENT, PREDICTIONS, SETTINGS, CHART])
def test_a_stranger_s_file_is_not_overwritten(vlcheck, config, name):
    """A folder that holds something of this name is refused before any work."""
    OUT.mkdir(parents=True)
    (OUT / name).write_text('{"schema": "mine"}')
    code, out, err = vlcheck("evaluate", config(SMALL))

    assert (code, out) == (2, "")
    assert err.startswith(f"error: {OUT / name}:")
    assert "name another folder with --output" in err
    assert (OUT / name).read_text() == '{"schema": "mine"}'


@pytest.mark.parametrize(
    ("change", "options", "complaint"),
    [
        (("  eval_split: test\n", ""), [], "data.eval_split is not set; allowed: the split to evaluate on"),
        (("eval_split: test", "eval_split: dev"), [], 'data.eval_split: no split "dev"; splits: "train", "test"'),
        (SMALL, ["--max-new-tokens", "2"], "--max-new-tokens is 2; allowed: at least "),
        (SMALL, ["--adapter", "nowhere"], "is no folder"),
        (SMALL, ["--output", "tiny.yaml"], "cannot be written to: File exists"),
    ],
)
def test_what_cannot_be_evaluated(vlcheck, config, change, options, complaint):
    """One line that says what to change, exit code 2."""
    code, out, err = vlcheck("evaluate", config(change), *options)

    assert (code, out) == (2, "")
    assert complaint in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_trained_weights_without_their_processor_are_not_evaluated(vlcheck, config):
    """As above: one line, exit code 2."""
    file = config(("weights: random", "weights: pretrained"), model=SHIPPED)
    code, out, err = vlcheck("evaluate", file, "--offline")

    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert "the processor of vlcheck/tiny-gemma4 is not here" in err
    assert err.count("\n") == 1


def test_the_run_s_own_adapter_is_named(vlcheck, config):
    """A slip in --adapter is answered with the folder that training wrote."""
    Path("tiny-shapes/adapter").mkdir(parents=True)
    _, _, err = vlcheck("evaluate", config(SMALL), "--adapter", "adapter")

    assert err.endswith("is no folder; this run's adapter is in tiny-shapes/adapter\n")


def test_a_patch_is_not_left_out(vlcheck, config):
    """A run that patches its model is not evaluated without."""
    code, _, err = vlcheck("evaluate", config(("dtype: float32", "dtype: float32\n  patch: mine:patch")))

    assert code == 2
    assert err == "error: model.patch mine:patch changes the model; run again with --allow-code\n"


# --------------------------------------------------------------------------- rows of a folder


@pytest.fixture
def folder(tmp_path):
    """Five rows: one has no readable image, one names none, one a label that training does not know."""
    home = tmp_path / "pictures"
    home.mkdir()
    for name in ("a", "b", "c"):
        Image.new("RGB", (60, 60), "red").save(home / f"{name}.png")
    (home / "broken.png").write_bytes((home / "a.png").read_bytes()[:40])
    rows = [("a.png", "red"), ("broken.png", "red"), ("b.png", "Red."), ("c.png", "mauve")]
    table = [{"image": "a.png", "label": "red", "split": "train"}]
    table += [{"image": image, "label": label, "split": "test"} for image, label in rows]
    table.append({"label": "red", "split": "test"})
    (home / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    return ("generated: shapes", "path: pictures")


def test_unreadable_rows_are_counted_and_listed(vlcheck, config, folder):
    """They are no part of n; labels that training never shows, and two spellings of one, are noted."""
    file = config(folder, ("max_soft_tokens: 70", "max_soft_tokens: 70\n  max_unreadable: 0.5"))
    code, out, err = vlcheck("evaluate", file, "--format", "json")
    document = json.loads(out)

    assert (code, err) == (0, "")
    assert document["n"] == 3
    assert [row["name"].rpartition(":")[2] for row in document["quarantined"]] == ["6", "3"]
    assert [row["label"] for row in document["classes"]] == ["mauve", "red"]
    assert any("1 labels of the split are none of the training split's: 'mauve'" in note for note in document["notes"])
    assert any("'red', 'Red.'" in note for note in document["notes"])


def test_too_many_unreadable_rows(vlcheck, config, folder):
    """Beyond data.max_unreadable the command stops, and says which row."""
    code, out, err = vlcheck("evaluate", config(folder))

    assert (code, out) == (2, "")
    assert "1 of 5 rows of split 'test' cannot be read, the last " in err
    assert err.endswith("allowed: data.max_unreadable 1.00%\n")
    assert err.count("\n") == 1


def test_an_empty_split(vlcheck, config, tmp_path):
    """No rows, no accuracy."""
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "test.jsonl").write_text("")
    (tmp_path / "pictures" / "train.jsonl").write_text("")
    code, _, err = vlcheck("evaluate", config(("generated: shapes", "path: pictures")))

    assert code == 2
    assert "split 'test' holds no rows, so there is nothing to evaluate" in err


def test_a_limit_takes_every_label_in_turn(vlcheck, config):
    """Of twelve rows, two a colour, the first of each; the sheet shows those that are wrong."""
    document = asked(vlcheck, config(("eval_split: test", "eval_split: test\n  eval_samples: 12")), "--limit", "6")

    assert len({row["expected"] for row in lines(OUT)}) == 6
    assert [row["row"] for row in lines(OUT)] == list(range(6))
    assert document["n"] == 6
    with Image.open(OUT / WRONG) as sheet:
        assert sheet.width >= 900
        assert sheet.height > 160


def test_a_prompt_that_lists_the_labels_and_shows_rows(vlcheck, config):
    """What was asked is in the settings; the rows that are shown are of the training split."""
    settings = asked(vlcheck, config(SMALL), "--class-list", "--few-shot", "2", "--limit", "1")["settings"]

    prompt, listed = settings["first_prompt"], "Answer with one of: blue, green, purple, red, yellow."
    assert settings["class_list"] == ["blue", "green", "purple", "red", "yellow"]
    assert settings["few_shot"] == ["train[0]", "train[1]"]
    assert prompt.count("<|image|>") == prompt.count(listed) == 3
    assert prompt.count("<|turn>model\nred") == prompt.count("<|turn>model\ngreen") == 1
    assert prompt.endswith("<|turn>model\n")


def test_how_tokens_are_chosen_is_stated(vlcheck, config):
    """Equal seeds draw equal answers."""
    drawn = ("--temperature", "1.5", "--top-p", "0.9", "--limit", "2")
    first = asked(vlcheck, config(SMALL), *drawn)
    answers = [row["answer"] for row in lines(OUT)]
    assert first["settings"]["decoding"] == "temperature 1.5, top_p 0.9, seed 42"
    asked(vlcheck, config(SMALL), *drawn)
    assert [row["answer"] for row in lines(OUT)] == answers
    assert asked(vlcheck, config(SMALL), "--beams", "2", "--limit", "1")["settings"]["decoding"] == "greedy, 2 beams"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ((("eval_split: test", "eval_split: train"),), "that is the evaluation split"),
        ((("eval_split: test", "eval_split: test\n  train_samples: 1"),), "--few-shot is 2; the training split has 1"),
    ],
)
def test_rows_that_cannot_be_shown_are_told(vlcheck, config, changes, words):
    code, _, err = vlcheck("evaluate", config(*changes), "--few-shot", "2")

    assert code == 2
    assert words in err
    assert err.count("\n") == 1
