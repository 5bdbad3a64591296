"""`vlcheck reproduce`: the article's systems end to end on the stand-in, in miniature; its prompt, score and mask."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from vlcheck.data.conversation import Conversation, Picture, Turn
from vlcheck.evaluation.article import PROMPTS, SYSTEMS, instruction, lenient
from vlcheck.evaluation.files import read_evaluation
from vlcheck.evaluation.prompt_length import by_length
from vlcheck.evaluation.reproduction import LINES, Reproduction, Weights, kept_lines
from vlcheck.evaluation.standin import Task, read_base, spec_of, task_for, taught, write_photos
from vlcheck.evidence.options import Options
from vlcheck.evidence.resolve import Evidence
from vlcheck.finding import Unavailable
from vlcheck.processing.labels import IGNORE_INDEX
from vlcheck.reports.harm import measured, severities_of
from vlcheck.reports.reproduction import render_reproduction
from vlcheck.rules import every_rule

STANDIN = Path(__file__).parents[2] / "fixtures" / "standin"


@pytest.fixture
def hasty(tmp_path):
    """The stand-in with so few steps that two photos take one."""
    folder = tmp_path / "standin"
    folder.mkdir()
    for file in STANDIN.iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "settings.json").unlink()
    (folder / "settings.json").write_text('{"steps": 20, "learning_rate": 0.001}', "utf-8")
    return folder


# --------------------------------------------------------------------------- the whole way


def run_systems(vlcheck, standin, prompt, *names):
    """Each on two photos, with one command, and once more."""
    chosen = [part for name in names for part in ("--system", name)]
    command = ("reproduce", "--standin", standin, "--samples", "2", "--prompt", prompt, "--offline", *chosen)
    code, out, err = vlcheck(*command)
    assert code == 0, err
    lines = kept_lines(Path("reproduction"))
    assert [line["system"] for line in lines] == list(names)
    assert [(line["training"] or {}).get("steps", 0) for line in lines] == [int(SYSTEMS[name].tuned) for name in names]
    assert all(line["exact"]["n"] == line["lenient"]["n"] == 2 for line in lines)
    for name in names:
        row = next(row for row in out.splitlines() if row.startswith(name))
        told = f"{SYSTEMS[name].figure:.1%} of {SYSTEMS[name].rows:,}"
        assert re.search(rf"{prompt} +{told} \(.* to .*\)  +\d.*% of 2 \(.* to .*\)  +\d.*% of 2 \(", row)
    assert "a stand-in of 5.3 M parameters" in " ".join(out.split())
    before = Path("reproduction", LINES).read_text()
    assert vlcheck(*command)[:2] == (0, out)
    assert Path("reproduction", LINES).read_text() == before


def test_a_system_as_it_is_is_asked_with_the_articles_prompt(vlcheck, hasty):
    run_systems(vlcheck, hasty, "article", "gemma4-baseline")
    (file,) = Path("reproduction").glob("gemma4-baseline-article-2/evaluation/evaluation.json")
    assert json.loads(file.read_text())["settings"]["instruction"] == instruction(Task(2).names)


def test_a_system_that_is_tuned(vlcheck, hasty):
    run_systems(vlcheck, hasty, "ours", "standard-lora")


@pytest.mark.slow
@pytest.mark.parametrize("prompt", PROMPTS)
def test_four_systems_run_with_one_command(vlcheck, hasty, prompt):
    run_systems(vlcheck, hasty, prompt, *SYSTEMS)


@pytest.mark.slow
def test_few_breeds_tell_the_systems_apart_on_a_cpu(vlcheck):
    """Six breeds, 24 photos of each: minutes."""
    code, out, err = vlcheck("reproduce", "--standin", STANDIN, "--samples", "144", "--prompt", "ours", "--offline")
    assert code == 0, err
    print(out)
    found = {line["system"]: line["exact"]["accuracy"] for line in kept_lines(Path("reproduction"))}
    assert list(found) == list(SYSTEMS)
    assert found["qlora-all-linear"] - found["gemma4-baseline"] >= 0.6
    assert found["qlora-all-linear"] - found["standard-lora"] >= 0.3


class Here(Weights):
    """The stand-in's weights in the place of every model."""

    def of(self, model):
        return STANDIN


@pytest.mark.slow
@pytest.mark.parametrize(("name", "prompt"), [("gemma4-baseline", "article"), ("gemma3-baseline", "ours")])
def test_recipes_run_with_their_own_settings(tmp_path, name, prompt):
    """As on real weights, but for the model: its photos are named, and every label has its share of the samples."""
    photos = write_photos(Task(3, 2, 2), tmp_path / "photos")
    line = Reproduction(Here(None, photos), tmp_path, 3, Options(offline=True)).run(name, prompt)
    assert line["exact"]["n"] == 3
    rows = read_evaluation(tmp_path / f"{name}-{prompt}-3" / "evaluation")
    assert {row["expected"] for row in rows.predictions} == set(Task(3).names)
    assert rows.document["settings"]["max_new_tokens"] == 128


# --------------------------------------------------------------------------- what cannot be run


def test_without_weights_it_says_what_to_set(vlcheck, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    code, out, _ = vlcheck("reproduce", "--system", "gemma4-baseline", "--prompt", "ours", "--weights", "/nowhere")
    said = " ".join(out.split())
    assert code == 2
    assert "gemma4-baseline ours 89.0% of 200 (83.9% to 92.6%) not run" in said
    for told in ("hf download google/gemma-4-31B-it", "a folder that holds gemma-4-31B-it/", "--standin"):
        assert told in said


def test_without_a_gpu_no_31b_is_begun(vlcheck):
    code, out, _ = vlcheck("reproduce")
    assert code == 2
    assert out.count("not run  ") == len(SYSTEMS) * len(PROMPTS)
    for model in ("google/gemma-4-31B-it", "google/gemma-3-27b-it"):  # once, whatever the number of its systems
        assert " ".join(out.split()).count(f"not run: {model} needs a CUDA GPU") == 1


def test_weights_must_be_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    folder = tmp_path / "gemma-3-27b-it"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with pytest.raises(Unavailable, match=r"holds neither model.safetensors nor"):
        Weights(tmp_path).of("google/gemma-3-27b-it")
    (folder / "model.safetensors").symlink_to(STANDIN / "model.safetensors")
    assert Weights(tmp_path).of("google/gemma-3-27b-it") == folder


def test_a_damaged_line_is_passed_over(tmp_path):
    (tmp_path / LINES).write_text('{"system": "gemma4-baseline"}\n3\n{"system": "stand')
    assert kept_lines(tmp_path) == [{"system": "gemma4-baseline"}]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--output", "/dev/null/runs"), "cannot be written to: Not a directory"),
        (("--system", "qlora"), "--system qlora; allowed: gemma3-baseline, gemma4-baseline, standard-lora, qlora-all"),
        (("--prompt", "theirs"), "--prompt theirs; allowed: article, ours"),
        (("--standin", "/nowhere"), "/nowhere holds no stand-in: "),
        (("--standin", STANDIN, "--data", "pets"), "--standin takes the place of --weights and --data"),
        (("--harm", "--standin", "/nowhere/standin"), "name fixtures/standin of a checkout"),
        (("--harm", "--standin", STANDIN), "--harm --standin needs a CUDA GPU"),
    ],
)
def test_a_mistake_ends_in_one_line(vlcheck, options, says):
    code, out, err = vlcheck("reproduce", *options)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert says in err
    assert err.count("\n") == 1


def test_what_stopped_is_said_and_is_no_score():
    line = {"system": "standard-lora", "prompt": "ours", "samples": None, "stopped": "the loss is nan",
            "article": {"accuracy": 0.78, "n": 200, "interval": [0.7, 0.8]}}  # fmt: skip
    text = render_reproduction([line])
    assert "78.0% of 200 (70.0% to 80.0%)  stopped" in text
    assert "standard-lora, prompt ours: stopped: the loss is nan" in text


# --------------------------------------------------------------------------- harm


def test_harm_prints_what_was_measured(vlcheck):
    code, out, _ = vlcheck("reproduce", "--harm")
    severities = {rule.code: severities_of(rule) for rule in every_rule()}
    assert code == 0
    for row, effect in zip(out.splitlines()[1:], measured()["faults"], strict=False):
        assert row.startswith(effect["name"])
        assert f"{100 * effect['difference']:+.1f}" in row
        assert all(f"{code} {severities[code]}" in row for code in effect["rules"])
        assert row.endswith("harm" if effect["shown"] else "not shown at this scale")


# --------------------------------------------------------------------------- the article's prompt, score and mask


def test_its_prompt_lists_every_name():
    assert "The breeds are: beagle, ragdoll. " in instruction(["ragdoll", "beagle"])


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("It is a Russian_Blue, I think.", "russian blue"),
        ("american pit bull terrier", "american pit bull terrier"),  # and not the shorter bull terrier in it
        ("Unknown", None),
        ("", None),
    ],
)
def test_its_score_takes_the_longest_name_anywhere(answer, name):
    assert lenient(answer, ["russian_blue", "bull terrier", "american_pit_bull_terrier"]) == name


def supervised(folder):
    """What the article's first mask trains of one row, and what ours does."""
    image = io.BytesIO()
    Image.new("RGB", (96, 96)).save(image, "PNG")
    asked, said = Turn("user", (Picture(image.getvalue(), "photo"), "Which breed?")), Turn("assistant", ("Beagle",))
    spec = spec_of(folder, folder, folder, seed=0, steps=1)
    ours = Evidence(spec, {}, offline=True).get("own_collator")
    labels = [collator([Conversation((asked, said), "row")])["labels"] for collator in (by_length(ours), ours)]
    return [ours.processor.tokenizer.decode(own[own != IGNORE_INDEX]) for own in labels]


def test_its_first_mask_is_right_where_a_prompt_is_the_start_of_its_row(hasty):
    assert supervised(hasty) == ["Beagle<turn|>\n", "Beagle<turn|>"]


def test_its_first_mask_eats_the_answer_where_the_prompt_opens_a_thought(hasty):
    """As the templates of 12B, 26B and 31B do: ten ids that no rendered turn has."""
    template = hasty / "chat_template.jinja"
    text = template.read_text("utf-8").rstrip()
    opened = "{{- '<|turn>model\\n' -}}\n{%- endif -%}"
    assert text.endswith(opened)
    template.unlink()
    template.write_text(text.replace(opened, opened.replace("model\\n", "model\\n<|channel>thought\\n<channel|>")))
    theirs, ours = supervised(hasty)
    assert ours == "Beagle<turn|>"
    assert "Beagle" not in theirs


# --------------------------------------------------------------------------- how much is taught


def test_every_photo_is_seen_as_often_whatever_their_number():
    base = replace(read_base(STANDIN), steps=250)
    assert taught(base, Task()) == {"steps": 250, "per_device_train_batch_size": 32}
    few = taught(base, task_for(144))
    assert task_for(144) == Task(6, 24, 10)
    assert few["steps"] * few["per_device_train_batch_size"] / 144 == pytest.approx(250 * 32 / 1480, rel=0.01)
    assert task_for(None) == task_for(5_000) == Task()
    assert task_for(2) == Task(2, 1, 1)
