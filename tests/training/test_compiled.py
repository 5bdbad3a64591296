"""Compiled layers: the readable ones' values and gradients, and no 16-bit weight kept for the backward pass."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace
from typing import Any

import bitsandbytes
import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from transformers.modeling_layers import GradientCheckpointingLayer

from tests import tiny
from tests.training.runs import recipe
from vlcheck.memory.batch import make_batch
from vlcheck.memory.limits import doubts
from vlcheck.memory.plan import COMPILED, COMPILED_KEPT, MEASURED_BAND, WIDER
from vlcheck.memory.shape import Shape
from vlcheck.model.build import Weights, build_model
from vlcheck.model.families import family_of
from vlcheck.model.frozen_product import FrozenLinear4bit, make_opaque
from vlcheck.spec import Training
from vlcheck.training.compiled import EARNS, compile_layers, compiled_line, compiles, left_readable, why_not
from vlcheck.training.identity import changes, identity_of
from vlcheck.training.order import Order
from vlcheck.training.settings import settings_of
from vlcheck.training.step import autocast, micro_step, prepare

ROWS, IN, OUT = 6, 64, 128


@pytest.fixture(autouse=True)
def the_compiler_is_on(monkeypatch):
    """As outside of the suite, which needs it nowhere else."""
    monkeypatch.delenv("TORCHDYNAMO_DISABLE", raising=False)


def packed(*, kind: str = "nf4", nested: bool = True, bias: bool = False) -> Any:
    torch.manual_seed(0)
    layer = bitsandbytes.nn.Linear4bit(
        IN, OUT, bias=bias, compute_dtype=torch.bfloat16, compress_statistics=nested, quant_type=kind
    ).to("cpu")
    return layer.requires_grad_(False)


def passed(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    x = torch.randn(2, ROWS, IN, dtype=torch.bfloat16, requires_grad=True)
    y = layer(x)
    y.float().square().sum().backward()
    return y.detach(), x.grad


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_opaque_product_is_that_of_bitsandbytes_bit_for_bit(kind, nested, bias):
    theirs = packed(kind=kind, nested=nested, bias=bias)
    ours = copy.deepcopy(theirs)
    assert make_opaque(nn.ModuleList([ours])) == 1
    assert type(ours) is FrozenLinear4bit
    for a, b in zip(passed(theirs), passed(ours), strict=True):
        assert a.dtype is b.dtype
        assert torch.equal(a, b)


def test_layers_that_the_operation_does_not_know_stay_as_they_are():
    trained = packed(bias=True)
    trained.bias.requires_grad_(True)
    odd = packed()
    odd.weight.quant_state.state2.blocksize = 128
    plain = nn.Linear(4, 4)
    unset = packed()
    unset.compute_dtype = None
    assert make_opaque(nn.ModuleList([trained, odd, plain, unset])) == 0
    assert {type(each) for each in (trained, odd, unset)} == {bitsandbytes.nn.Linear4bit}


def kept_bytes(product: Any) -> int:
    """Bytes of 16-bit values that a backward pass holds on to, the input aside."""
    held: list[int] = []
    x = torch.randn(ROWS, IN, dtype=torch.bfloat16, requires_grad=True)

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor.nbytes if tensor.dtype is torch.bfloat16 and tensor is not x else 0)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = product(x)
    y.float().sum().backward()
    return sum(held)


def test_backward_pass_of_a_compiled_layer_keeps_no_expanded_weight():
    layer = packed()
    make_opaque(nn.ModuleList([layer]))
    expanded = bitsandbytes.functional.dequantize_4bit(layer.weight, layer.weight.quant_state).bfloat16()
    assert kept_bytes(lambda x: x @ expanded.t()) == 2 * IN * OUT  # what is looked for would be seen
    torch._dynamo.reset()
    assert kept_bytes(torch.compile(layer, backend="aot_eager", fullgraph=True)) == 0


def test_a_layer_that_the_compiler_gives_up_runs_as_it_is_written():
    class Layer(GradientCheckpointingLayer):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x):
            return self.inner(x)

    def broken(graph, inputs):
        raise AssertionError("Node add was invalid, but is output")

    model = nn.ModuleList([Layer()])
    x = torch.ones(1, 4)
    expected = model[0](x)
    torch._dynamo.reset()
    counters.clear()
    assert compile_layers(model, broken) == 1
    assert torch.equal(model[0](x), expected)
    assert left_readable() >= 1
    assert " graphs were given up" in compiled_line(2.0)
    counters.clear()
    assert compiled_line(2.0) == "the first step took 2 s, compiling included"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "soft"), [(tiny.gemma4, 16), (tiny.gemma4_per_layer, 16), (tiny.gemma3, 4)],
    ids=["gemma4", "gemma4_per_layer", "gemma3"],
)  # fmt: skip
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_compiled_layers_agree_with_readable_ones_at_every_size(config, soft, share):
    values = config()
    spec = recipe()
    spec = replace(spec, training=replace(spec.training, gradient_checkpointing_share=share))
    spec = replace(spec, lora=replace(recipe().lora, lora_dropout=0.0, exclude_modules=".*audio.*"))
    settings = settings_of(spec)
    model = build_model(spec, Weights.RANDOM, config=values, device="cpu", seed=3)
    prepare(model, settings)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    batches = [make_batch(family_of(values), values, Shape(rows=rows, tokens=tokens, soft_tokens=soft))
               for rows, tokens in ((2, 96), (2, 112), (1, 80))]  # fmt: skip

    def gradients() -> list[tuple[float, dict[str, torch.Tensor]]]:
        found = []
        for batch in batches:
            model.zero_grad(set_to_none=True)
            context = functools.partial(autocast, "bf16", "cpu")
            loss = micro_step(model, batch, supervised_only=True, context=context)
            kept = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
            found.append((float(loss), kept))
        return found

    readable = gradients()
    torch._dynamo.reset()
    assert compile_layers(model, "aot_eager") >= 4
    for (loss, kept), (theirs, others) in zip(readable, gradients(), strict=True):
        assert loss == theirs
        assert kept.keys() == others.keys()
        assert kept
        assert all(torch.equal(kept[name], others[name]) for name in kept)


def order(steps: int = EARNS, accumulation: int = 1) -> Order:
    return Order(1000, steps * accumulation, 1, accumulation, 1, 0)


def test_a_run_compiles_where_it_asks_has_a_gpu_and_is_long_enough(monkeypatch):
    asked = Training(torch_compile=True)
    assert "no GPU" in why_not(order())
    assert not compiles(asked, order())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert compiles(asked, order())
    assert compiles(asked, order(EARNS // 4, 4))
    assert not compiles(asked, order(EARNS - 1))
    assert why_not(order(EARNS - 1)) == f"{EARNS - 1} micro-batches do not earn the time; {EARNS} would"
    assert not compiles(Training(), order())


def test_compiling_is_no_other_run_but_a_change_that_is_told():
    spec = recipe()
    other = replace(spec, training=replace(spec.training, torch_compile=not spec.training.torch_compile))
    assert identity_of(spec, 4) == identity_of(other, 4)
    assert "compiled 1 after 0" in next(changes({"split": [1, 4, 1, 0]}, [1, 4, 1, 1], {}))
    assert "compiled 1 after 0" in next(changes({"split": [1, 4, 1]}, [1, 4, 1, 1], {}))
    assert not [*changes({"split": [1, 4, 1]}, [1, 4, 1, 0], {})]


@pytest.mark.parametrize(("share", "doubt"), [(1.0, COMPILED), (0.75, COMPILED_KEPT)])
def test_plan_of_compiled_layers_says_so_and_how_far_it_may_be_off(sound_plan, share, doubt):
    training = replace(recipe().training, torch_compile=True, gradient_checkpointing=True,
                       gradient_checkpointing_share=share)  # fmt: skip
    spec = replace(recipe(), training=training)
    told = doubts(sound_plan.gpu, family_of(tiny.gemma4()), settings_of(spec), spec)
    assert [each for each in told if each.startswith("compiled layers")] == [doubt]
    assert replace(sound_plan, doubts=(doubt,)).band == pytest.approx(MEASURED_BAND + 0.03 + WIDER[doubt])


@pytest.fixture
def sound_plan():
    from vlcheck.gpus import gpu
    from vlcheck.memory.plan import MemoryPlan

    return MemoryPlan(gpu=gpu("h100"), shape=Shape(rows=1, tokens=64, soft_tokens=16), lines=(), reserved_bytes=0)
