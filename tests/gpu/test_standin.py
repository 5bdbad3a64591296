"""What the stand-in is made of: breeds, names, its base, the faults' arithmetic, and what is told of their harm."""

from __future__ import annotations

import hashlib
import itertools
import json
from types import SimpleNamespace

import pytest
import torch

from tests.gpu.standin.animals import other_names
from tests.gpu.standin.faults import FAULTS, INJECTED, SEEDS
from tests.gpu.standin.sweep import FIXTURES, wanted
from tests.gpu.standin.tell import Effect, effects, newcombe, student, told
from vlcheck.data.drawn_animals import APART, KINDS, NAMES, breeds
from vlcheck.reports.harm import effects_of

END, PAD = 9, 0
BATCH = {
    # begin, turn, image, image, asked, end, turn, answer, answer, end, padding
    "input_ids": torch.tensor([[1, 2, 5, 5, 3, END, 2, 7, 8, END, PAD], [1, 2, 5, 5, 3, END, 2, 6, END, PAD, PAD]]),
    "mm_token_type_ids": torch.tensor([[0, 0, 1, 1, *[0] * 7]] * 2),
    "attention_mask": torch.tensor([[1] * 10 + [0], [1] * 9 + [0] * 2]),
    "labels": torch.tensor([[-100] * 7 + [7, 8, END, -100], [-100] * 7 + [6, END, -100, -100]]),
}
COLLATOR = SimpleNamespace(
    dialogue=SimpleNamespace(end="end"),
    processor=SimpleNamespace(tokenizer=SimpleNamespace(convert_tokens_to_ids={"end": END}.__getitem__)),
)


def test_breeds_differ_in_two_attributes_and_no_name_is_pretrained():
    found = breeds()
    assert len(found) == len(NAMES) == 37
    for one, other in itertools.combinations(found.values(), 2):
        assert sum(a != b for a, b in zip(one, other, strict=True)) >= APART
    assert not set(other_names(len(KINDS))) & set(NAMES)


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("everything supervised", [1, 2, 5, 5, 3, END, 2, 7, 8, END], [1, 2, 5, 5, 3, END, 2, 6, END]),
        ("prompt supervised", [1, 2, 3, END, 2, 7, 8, END], [1, 2, 3, END, 2, 6, END]),
        ("mask shifted", [2, 7, 8], [2, 6]),
        ("end not learnt", [7, 8], [6]),
        ("anchor in prompt", [3, END], [3, END]),
        ("answers truncated", [7, 8], [6, END]),
        ("answers rotated", [6, END], [7, 8]),
        ("off by one", [7, 8, END], [6, END]),
    ],
)
def test_labels_of_each_fault(name, first, second):
    labels = FAULTS[name].batch(BATCH, COLLATOR)["labels"]
    assert [[int(i) for i in row if i != -100] for row in labels] == [first, second]


def test_off_by_one_stands_before_its_ids():
    labels = FAULTS["off by one"].batch(BATCH, COLLATOR)["labels"]
    assert labels[0, 6] == BATCH["input_ids"][0, 7]


def test_there_are_twenty_faults_and_the_gate_comes_first():
    jobs = list(wanted(SEEDS))
    assert len(FAULTS) > 20
    assert len(set(jobs)) == len(jobs) == len(FAULTS) * len(SEEDS)
    assert [fault for fault, _ in jobs[:10]] == ["none"] * 5 + list(INJECTED)


# --------------------------------------------------------------------------- the base


def test_the_base_is_the_one_that_was_measured():
    weights = FIXTURES / "standin" / "model.safetensors"
    known = json.loads((FIXTURES / "standin" / "base.json").read_text("utf-8"))
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == known["sha256"]
    assert weights.stat().st_size < 32 * 2**20


def test_the_base_loads_and_its_bounds_are_finite():
    from transformers import AutoModelForImageTextToText

    from tests.gpu.standin.base import wrappers
    from vlcheck.model.family import CLIP_BOUNDS

    model = AutoModelForImageTextToText.from_pretrained(FIXTURES / "standin")
    bounds = [float(getattr(module, name)) for module in wrappers(model).values() for name in CLIP_BOUNDS]
    assert len(bounds) == 4 * 28
    assert all(0 < abs(bound) < 1e4 for bound in bounds)


# --------------------------------------------------------------------------- harm


def runs_of(fault, *accuracies):
    kept = {"n": 370, "base": "b", "losses": [1.0], "norms": {}}
    return [{**kept, "fault": fault, "seed": seed, "accuracy": share} for seed, share in enumerate(accuracies)]


def test_intervals_are_the_published_ones():
    """9 of 10 against 3 of 10 in Newcombe 1998, table II, method 10; Student's by hand."""
    found = newcombe(9 / 10, 3 / 10, 10)
    assert (round(found.low, 4), round(found.high, 4)) == (0.1705, 0.8090)
    found = student([-0.1, -0.2, -0.3])
    assert (round(found.low, 4), round(found.high, 4)) == (-0.4484, 0.0484)


def test_an_effect_is_that_against_the_same_seeds():
    sound, spoilt = runs_of("none", 1.0, 0.9), runs_of("fp16", 0.5, 0.6)
    (effect,) = effects([*sound, *spoilt, *({**run, "base": "other"} for run in runs_of("off by one", 0.0))], "b")
    assert effect.difference == pytest.approx(-0.4)
    assert effect.interval.low == -1.0  # two seeds say little: t is 12.7
    assert effect.verdict == "not shown at this scale"


@pytest.mark.parametrize(
    ("accuracy", "verdict"), [(0.5, "harm"), (0.97, "harm below 5%"), (0.995, "not shown at this scale")]
)
def test_verdicts(accuracy, verdict):
    assert Effect("", FAULTS["fp16"], tuple(runs_of("", accuracy)), tuple(runs_of("none", 1.0))).verdict == verdict


def test_documents_are_those_of_the_raw_runs():
    for path, text in told().items():
        assert path.read_text("utf-8") == text, f"python -m tests.gpu.standin.tell writes {path.name} anew"


def test_explain_shows_what_was_measured():
    from vlcheck.reports.rulebook import explain_rule
    from vlcheck.rules import every_rule
    from vlcheck.rules.choosing import find

    (found,) = effects_of("VLC212")
    text = explain_rule(find("VLC212"), every_rule())
    assert f"Measured: {found['says']}: " in text
    assert f"{100 * found['difference']:+.1f} points" in text
    assert "on a stand-in of 5.3 M parameters" in text
    assert "Measured:" not in explain_rule(find("VLC103"), every_rule())
