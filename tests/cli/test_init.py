"""`vlcheck init --model --data --framework`: a starter that loads, for what the user has."""

from __future__ import annotations

import json

import pytest

from vlcheck.config.load import load

CHAT = {"messages": [{"role": "user", "content": "?"}], "images": ["a.png"]}


@pytest.mark.parametrize("framework", ["vlcheck", "trl", "axolotl", "llamafactory", "ms-swift", "unsloth", "other"])
def test_a_model_and_a_framework(vlcheck, tmp_path, framework):
    """The rest stays as the starter has it."""
    assert vlcheck("init", "--model", "Qwen/Qwen3-VL-8B-Instruct", "--framework", framework)[0] == 0
    spec = load(tmp_path / "vlcheck.yaml")

    assert (spec.model.id, spec.training.framework) == ("Qwen/Qwen3-VL-8B-Instruct", framework)
    assert spec.training.output_dir == "Qwen3-VL-8B-Instruct-adapter"
    assert spec.data.dataset == "timm/oxford-iiit-pet"
    assert "on pictures of pets" in (tmp_path / "vlcheck.yaml").read_text()


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        (CHAT, ("image", "label", None)),
        ({"conversations": [], "image": "a.png"}, ("image", "label", None)),
        ({"file_name": "a.png", "text": "a cat"}, ("file_name", "text", "Which breed")),
        ({"what": 1}, ("image", "label", "Which breed")),
    ],
)
def test_data_of_ones_own(vlcheck, tmp_path, row, columns):
    """Chat rows bring their own question; flat rows are told by their columns."""
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    assert vlcheck("init", "--model", "a/b", "--data", "rows.jsonl")[0] == 0
    data = load(tmp_path / "vlcheck.yaml").data

    assert (data.path, data.dataset, data.eval_split) == (str(tmp_path / "rows.jsonl"), None, None)
    assert (data.image_column, data.answer_column, data.instruction and data.instruction[:11]) == columns


def test_a_data_set_on_the_hub_and_a_folder(vlcheck, tmp_path):
    (tmp_path / "pets/train").mkdir(parents=True)
    vlcheck("init", "hub.yaml", "--data", "org/pets", "--model", "a/b")
    vlcheck("init", "own.yaml", "--data", "pets")

    assert load(tmp_path / "hub.yaml").data.dataset == "org/pets"
    assert load(tmp_path / "own.yaml").data.path == str(tmp_path / "pets")
    assert "path: ./pets" in (tmp_path / "own.yaml").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "no id"), 'model.id is "no id"; allowed: a Hub id'),
        (("--model", "a/b", "--data", "./gone"), 'data.path is "./gone"; allowed: an existing folder or file'),
        (("--framework", "keras"), "no framework 'keras'; frameworks: vlcheck, trl,"),
        (("--recipe", "tiny", "--model", "a/b"), "--recipe tiny has its own model and data"),
    ],
)
def test_what_cannot_be_is_refused(vlcheck, tmp_path, options, message):
    code, out, err = vlcheck("init", *options)

    assert (code, out) == (2, "")
    assert message in err
    assert not (tmp_path / "vlcheck.yaml").exists()
