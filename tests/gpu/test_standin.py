"""What the stand-in is made of: breeds, names, and the faults' arithmetic. No model here."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch

from tests.gpu.standin.animals import APART, KINDS, NAMES, breeds, other_names
from tests.gpu.standin.faults import FAULTS, INJECTED, SEEDS
from tests.gpu.standin.sweep import wanted

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
