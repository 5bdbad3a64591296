"""What an adapter does to each parameter, held against PEFT's own merge in fp32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers.pytorch_utils import Conv1D

from vlcheck.adapters.changes import LowRank, Replaced, Whole, changes_of, share_ties
from vlcheck.adapters.load import ExpectedAdapter
from vlcheck.spec import ConfigError

FILE = Path("adapter_model.safetensors")
ALL = ("query", "convolution", "words", "head", "turned")


class Experts(nn.Module):
    """Experts stacked in one parameter, as transformers holds them: (experts, out, in) unless they are transposed."""

    def __init__(self, *, is_transposed: bool = False) -> None:
        super().__init__()
        self.is_transposed = is_transposed
        self.up = nn.Parameter(torch.randn(3, 5, 4) if not is_transposed else torch.randn(3, 4, 5))


class Toy(nn.Module):
    """One layer of every kind that an adapter changes."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.turned = nn.Linear(6, 8), Conv1D(8, 6)
        self.convolution = nn.Conv2d(3, 4, (2, 3))
        self.grouped = nn.Conv2d(4, 4, 2, groups=2)
        self.words, self.head = nn.Embedding(10, 6), nn.Linear(6, 10, bias=False)
        self.experts, self.turned_experts = Experts(), Experts(is_transposed=True)


def adapted(**settings):
    """PEFT's model around a toy, every trained tensor moved, and its tensors as `arrivals` gives them."""
    torch.manual_seed(0)
    model = get_peft_model(Toy(), LoraConfig(**{"r": 2, "lora_alpha": 3, "target_modules": list(ALL), **settings}))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter)
            if "magnitude" in name:
                parameter.data.abs_().add_(0.1)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    arrived = {key: tensor.clone() for key, tensor in model.state_dict().items() if key in trained}
    return model, arrived


def changed(model, arrived):
    expected = ExpectedAdapter(model, "default", {}, frozenset())
    return changes_of(expected, arrived, Toy().state_dict(), FILE)


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 5),
        ({"use_rslora": True, "alpha_pattern": {"query": 7}, "rank_pattern": {"head": 1}}, 5),
        ({"use_dora": True, "target_modules": ["query", "convolution", "head"]}, 3),
        ({"bias": "all"}, 9),
        ({"target_modules": ["query"], "modules_to_save": ["head", "turned"]}, 4),
        ({"target_modules": None, "target_parameters": ["experts.up", "turned_experts.up"]}, 2),
    ],
)
def test_each_change_is_peft_s_own(settings, count):
    """LoRA, rslora, patterns, DoRA, biases, whole parts and experts, on linear layers, convolutions and embeddings."""
    model, arrived = adapted(**settings)
    found = changed(model, arrived)
    base = {name: tensor.clone() for name, tensor in Toy.state_dict(untouched(model)).items()}
    merged = model.merge_and_unload().state_dict()

    assert len(found) == count
    for name, tensor in base.items():
        rows = tensor.reshape(-1, found[name].columns) if name in found else tensor
        whole = found[name].applied(rows, 0) if name in found else tensor
        torch.testing.assert_close(whole.view(tensor.shape), merged[name], rtol=1e-5, atol=1e-5)
        for first in range(len(rows)) if name in found else ():  # any division into rows
            torch.testing.assert_close(found[name].applied(rows[first : first + 3], first), whole[first : first + 3])


def untouched(model):
    """The toy of the same seed."""
    torch.manual_seed(0)
    return Toy()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"target_modules": ["grouped"]}, "changes grouped.weight by Conv2d, which vlcheck does not merge"),
        ({"target_modules": ["words"], "use_dora": True}, "changes words.weight by DoRA on Embedding"),
        ({"target_modules": ["query"], "lora_bias": True}, "lora_B.bias for query.weight, and vlcheck does not know"),
        (
            {"target_modules": ["query"], "trainable_token_indices": {"words": [1, 2]}},
            r"trainable_tokens_delta.default, and vlcheck does not know how that is merged",
        ),
    ],
)
def test_what_cannot_be_merged_is_refused_by_name(settings, complaint):
    """Never passed over: one line that names the parameter."""
    with pytest.raises(ConfigError, match=complaint) as refused:
        changed(*adapted(**settings))
    assert len(str(refused.value).splitlines()) == 1


def test_an_embedding_that_was_saved_beside_its_delta_takes_the_base_s_place():
    """PEFT saves embeddings that may have grown; the delta is on what the file holds."""
    model, arrived = adapted(target_modules=["words"])
    other = torch.randn(10, 6)
    found = changed(model, arrived | {"base_model.model.words.base_layer.weight": other})["words.weight"]
    alone = changed(model, arrived)["words.weight"]

    assert isinstance(found, Replaced)
    torch.testing.assert_close(found.applied(torch.zeros(4, 6), 3), alone.applied(other[3:7], 3))


# --------------------------------------------------------------------------- ties

TIES = {"head.weight": "words.weight"}
ONE, OTHER = Whole(torch.ones(10, 6)), Whole(torch.zeros(10, 6))


def test_tied_parameters_that_change_alike_stay_tied():
    """Saved twice with the same values, or once where PEFT ensures the tie, the change is under both names."""
    for changes, ensured in (
        ({"words.weight": ONE, "head.weight": Whole(torch.ones(10, 6))}, False),
        ({"words.weight": ONE}, True),
        ({"head.weight": ONE}, True),
    ):
        found = share_ties(changes, TIES, FILE, ensured=ensured)
        assert found["head.weight"] is found["words.weight"]
    assert share_ties({}, TIES, FILE, ensured=False) == {}


def test_ties_that_an_adapter_breaks_are_refused():
    """Input and output that differ cannot be one tensor."""
    delta = LowRank(torch.ones(1, 10, 2), torch.ones(1, 2, 6), 1.0)
    with pytest.raises(ConfigError, match=r"changes words\.weight alone, which the base ties to head\.weight"):
        share_ties({"words.weight": ONE}, TIES, FILE, ensured=False)
    for other in (OTHER, delta):
        with pytest.raises(ConfigError, match=r"makes head\.weight and words\.weight differ, which the base ties"):
            share_ties({"words.weight": ONE, "head.weight": other}, TIES, FILE, ensured=True)
