"""Compiled layers in the memory plan: the graphs are the compiler's own, and what they keep is what is counted."""

from __future__ import annotations

import json
from collections import Counter, UserDict
from dataclasses import replace
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from torch import fx
from transformers.modeling_layers import GradientCheckpointingLayer

from tests import tiny
from tests.gpu.runs import Run
from tests.memory.test_project import H100, spec
from vlcheck.gpus import gpu
from vlcheck.memory.attention import HOPPER
from vlcheck.memory.blocks import Blocks
from vlcheck.memory.compiled_layers import CompiledLayer, Compiler
from vlcheck.memory.graphs import Given, _shorten_casts, trace
from vlcheck.memory.mixed import CudaFunctions
from vlcheck.memory.plan import COMPILED, COMPILED_KEPT, GRAPHS
from vlcheck.memory.project import Simulation
from vlcheck.memory.shape import Shape
from vlcheck.memory.simulate import VIEWS, FollowStorages
from vlcheck.model import catalogue
from vlcheck.model.build import Weights, base_of, build_model
from vlcheck.model.families import family_of
from vlcheck.model.frozen_product import make_opaque

MEASURED = Path(__file__).parents[2] / "fixtures" / "measured" / "trainer-h100-2026-11-27.jsonl"
SHAPE = Shape(rows=2, tokens=64, soft_tokens=16)
ROWS, TOKENS = 2, 32


def base_of_view(node: fx.Node) -> fx.Node:
    return base_of_view(node.all_input_nodes[0]) if node.target in VIEWS else node


def own_kept(graph: fx.GraphModule, outputs: int) -> Counter[tuple[int, Any]]:
    """What lies between the passes beside inputs: elements and number type of each storage, once."""
    results: Any = next(node.args[0] for node in reversed(graph.graph.nodes) if node.op == "output")
    bases = set()
    for node in map(base_of_view, results[outputs:]):
        if node.op == "call_function" and isinstance(node.meta["val"], torch.Tensor):
            bases.add(node)
    return Counter((node.meta["val"].numel(), node.meta["val"].dtype) for node in bases)


def the_compilers(layer: Any, forward: Any, args: Any, kwargs: Any) -> tuple[Counter[Any], Any]:
    """The same of torch's compiler, for real tensors on the CPU."""
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch.partitioners import min_cut_rematerialization_partition
    from torch._inductor.decomposition import select_decomp_table

    kept: list[Counter[Any]] = []

    def split(graph: fx.GraphModule, inputs: Any, **more: Any) -> Any:
        for node in graph.graph.nodes:
            _shorten_casts(node)
        graph.graph.eliminate_dead_code()
        halves = min_cut_rematerialization_partition(graph, inputs, **more)
        kept.append(own_kept(halves[0], more["num_fwd_outputs"]))
        return halves

    backend = aot_autograd(fw_compiler=lambda graph, _: graph.forward, partition_fn=split,
                           decompositions=select_decomp_table())  # fmt: skip
    torch._dynamo.reset()
    with torch.autocast("cpu", torch.bfloat16):
        out = torch.compile(forward, backend=backend)(*args, **kwargs)
    out.float().sum().backward()
    assert len(kept) == 1
    return kept[0], out


def layer_of(model: Any, kind: str) -> tuple[Any, Any]:
    """A layer of the language model and its forward without its checkpoint."""
    text = base_of(model).model.language_model
    layer = text.layers[text.config.layer_types.index(f"{kind}_attention")]
    make_opaque(layer)
    return layer, MethodType(type(layer).forward.__wrapped__, layer)


def arguments(layer: Any, device: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    wide, width = layer.self_attn.head_dim, layer.hidden_size
    hidden = torch.randn(ROWS, TOKENS, width, dtype=torch.bfloat16, requires_grad=True, device=device)
    turn = torch.randn(1, TOKENS, wide, dtype=torch.bfloat16, device=device)
    mask = torch.ones(ROWS, 1, TOKENS, TOKENS, dtype=torch.bool).tril()
    shared: UserDict[int, Any] = UserDict()
    return (hidden, None), {"position_embeddings": (turn, turn), "attention_mask": mask, "shared_kv_states": shared}


@pytest.mark.parametrize("kind", ["sliding", pytest.param("full", marks=pytest.mark.slow)])
def test_a_layer_keeps_what_the_compilers_own_graph_keeps(kind, monkeypatch):
    monkeypatch.delenv("TORCHDYNAMO_DISABLE", raising=False)
    run = spec(gradient_checkpointing=False)
    run = replace(run, lora=replace(run.lora, lora_dropout=0.0))
    values = tiny.gemma4()
    real = build_model(run, Weights.RANDOM, config=values, device="cpu")
    real.train()
    layer, forward = layer_of(real, kind)
    args, kwargs = arguments(layer, "cpu")
    theirs, out = the_compilers(layer, forward, args, kwargs)
    layer, forward = layer_of(Simulation(run, values, family_of(values)).model, kind)
    args, kwargs = arguments(layer, "meta")
    given = Given.of(args, kwargs)
    graphs = trace(layer, forward, args, kwargs, given, CudaFunctions(HOPPER, Blocks(), torch.bfloat16))
    mine = own_kept(graphs.forward, graphs.outputs)
    assert graphs.outputs == 1
    assert out.shape == (ROWS, TOKENS, layer.hidden_size)
    assert sum(mine.values()) > 20
    assert mine == theirs


def compiled(values: dict[str, Any], **training: Any) -> Any:
    run = spec(torch_compile=True, **training)
    return Simulation(run, values, family_of(values)).plan(H100, SHAPE)


HALF = {"gradient_checkpointing": True, "gradient_checkpointing_share": 0.5}


@pytest.mark.slow
@pytest.mark.parametrize("values", [tiny.gemma4_deep, tiny.gemma4_per_layer], ids=["gemma4", "shared"])
def test_compiled_layers_keep_less_where_they_are_not_checkpointed(values):
    """Layers that hand keys and values on, and take those of others, too."""
    values = values()
    kept, whole = compiled(values, **HALF), compiled(values)
    as_written = Simulation(spec(**HALF), values, family_of(values)).plan(H100, SHAPE)
    assert kept.doubts == whole.doubts == (GRAPHS,)
    assert whole.of("activations") < kept.of("activations") < 0.95 * as_written.of("activations")
    assert kept.kernels == as_written.kernels
    for cause in ("quantised", "adapters", "input batch"):
        assert kept.of(cause) == as_written.of(cause)


class Reads(GradientCheckpointingLayer):
    """A layer whose way depends on a value."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden * 2 if float(hidden.sum()) > 0 else hidden


def test_a_layer_that_cannot_be_traced_has_no_graph():
    compiler, blocks = Compiler(), Blocks()
    functions = CudaFunctions(HOPPER, blocks, torch.bfloat16)
    layer = CompiledLayer(Reads(), Reads().forward, compiler, functions, FollowStorages(blocks), set())
    args = (torch.ones(2, requires_grad=True, device="meta"),)
    assert compiler.find(layer, args, {}, Given.of(args, {})) is None
    assert list(compiler.graphs.values()) == [None]


@pytest.mark.slow
def test_a_layer_with_a_cache_is_projected_as_it_is_written():
    """Without checkpointing the model hands its layers a cache, which a graph would see as it was when traced."""
    values = tiny.gemma4()
    found = compiled(values, gradient_checkpointing=False)
    as_written = Simulation(spec(gradient_checkpointing=False), values, family_of(values)).plan(H100, SHAPE)
    assert found.doubts == (COMPILED_KEPT,)
    assert found.of("activations: language model") == as_written.of("activations: language model")


@pytest.mark.parametrize("framework", ["trl", "transformers"])
def test_frameworks_compile_otherwise(framework):
    """They compile the whole model, of which there is no graph here."""
    values = tiny.gemma4()
    assert COMPILED in compiled(values, framework=framework).doubts


@pytest.mark.slow
@pytest.mark.parametrize("row", [row for row in map(json.loads, MEASURED.read_text().splitlines())
                                 if row.get("side") == "compiled" and row.get("share_of") is None
                                 and "share" in row and "peak_gib" in row], ids=lambda row: row["name"])  # fmt: skip
def test_measured_runs_lie_within_the_band(row):
    run = Run("google/gemma-4-31B-it", rows=row["rows"], tokens=512, soft_tokens=256, rank=64, dropout=0.0,
              share=row["share"])  # fmt: skip
    described = run.spec()
    described = replace(described, training=replace(described.training, torch_compile=True))
    config = catalogue.lookup(run.model).config
    plan = Simulation(described, config, family_of(config)).plan(gpu("h100"), run.shape())
    off = plan.allocated_bytes / 2**30 / row["peak_gib"] - 1
    print(f"{row['name']}: {row['peak_gib']:.2f} GiB measured, off by {off:+.2%}")
    assert plan.doubts == (GRAPHS,)
    assert abs(off) < 0.015
    assert row["peak_gib"] * 2**30 < plan.upper_bytes
