"""DDP's copies, buckets and clones: its own arithmetic, and the peaks that were measured."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.gpu.runs import Run
from tests.memory.test_project import GEMMA, H100, spec
from vlcheck.config.load import load
from vlcheck.memory.allocator import play
from vlcheck.memory.ddp import BROADCAST, BUCKET, FIRST_BUCKET, assigned, wrapping_of
from vlcheck.memory.project import Simulation
from vlcheck.memory.shape import Shape
from vlcheck.memory.tape import Tape
from vlcheck.memory.weights import load as load_weights
from vlcheck.model import catalogue
from vlcheck.model.families import family_of
from vlcheck.processing.lengths import Lengths, RowLength

SHAPE = Shape(tokens=64, soft_tokens=20)
PICTURED = Lengths((RowLength(64, 1, 20, 8, 1),))
GIB = 2**30


@given(st.lists(st.tuples(st.integers(1, 9), st.sampled_from([torch.float32, torch.uint8])),
                min_size=1, max_size=12))  # fmt: skip
def test_buckets_are_those_of_torch(sizes):
    """The same tensors together, in the same order, whatever their types."""
    tensors = [torch.empty(size * 100, dtype=dtype) for size, dtype in sizes]
    theirs, _ = torch.distributed._compute_bucket_assignment_by_size(tensors, [500, 1500])
    ours = assigned(tensors, [500, 1500])
    assert [[id(t) for t in bucket] for bucket in ours] == [[id(tensors[n]) for n in bucket] for bucket in theirs]


@cache
def simulation(framework: str | None, lengths: Lengths | None = None) -> Simulation:
    """Of two processes, or of one where no framework is named."""
    run = spec(framework=framework, logits="all")
    run = replace(run, hardware=replace(run.hardware, count=2 if framework else 1))
    return Simulation(run, GEMMA, family_of(GEMMA), lengths=lengths)


def test_gradients_are_kept_twice():
    """From wrapping on, to the byte, and again in other buckets from the second step on."""
    one, two = (simulation(framework).plan(H100, SHAPE) for framework in (None, "vlcheck"))
    kept = sum(p.numel() * p.element_size() for p in simulation("vlcheck").step_model.parameters)
    assert two.of("gradient buckets (DDP)") == kept
    assert two.allocated_bytes - one.allocated_bytes == pytest.approx(kept, rel=0.2)
    assert not two.doubts  # measured on two H100s: fixtures/measured/rows-ddp-*.jsonl
    assert any("DDP" in doubt for doubt in simulation("trl").plan(H100, SHAPE).doubts)


def test_another_frameworks_ddp_copies_frozen_weights():
    """The largest copy is a moment of its own, before the first step; vlcheck's own loop has only adapters there."""
    none, own, theirs = (simulation(name).plan(H100, SHAPE).moments for name in (None, "vlcheck", "trl"))
    embedding = max(p.numel() * p.element_size() for p in simulation("trl").model.parameters())
    assert theirs["wrapping in DDP"] - own["wrapping in DDP"] > 0.9 * embedding
    assert "wrapping in DDP" not in none


def test_looking_for_unused_adapters_clones_what_the_model_returns():
    """Logits and image features. Where every row has an image vlcheck's own loop does not look."""
    width, held = GEMMA["text_config"]["hidden_size"], []
    assert width == GEMMA["text_config"]["vocab_size"]
    for each in (simulation("vlcheck"), simulation("vlcheck", PICTURED)):
        each.plan(H100, SHAPE)
        ((taken,),) = each._tapes.values()
        tape = taken.tape
        held.append(sum(size for size, cause in zip(tape.sizes, tape.causes, strict=True) if "logits" in cause))
    assert held[0] - held[1] == 2 * width * (SHAPE.tokens + SHAPE.soft_tokens)


def test_buckets_are_built_anew_unless_adapters_may_be_unused():
    model = simulation("vlcheck").model
    looks, knows = (wrapping_of(model, leaves_frozen_out=True, finds_unused=on) for on in (True, False))
    assert looks.rebuilt == looks.buckets
    assert len(knows.buckets) == 1
    assert sum(knows.buckets) == sum(knows.rebuilt) == sum(looks.buckets)


def test_limits_are_those_of_torch():
    """Read from the installed torch, so that another version's are noticed."""
    source = Path(torch.nn.parallel.distributed.__file__).read_text()
    assert torch.distributed._DEFAULT_FIRST_BUCKET_BYTES == FIRST_BUCKET
    assert f"self.broadcast_bucket_size = {BROADCAST // 2**20} * 1024 * 1024" in source
    assert f"default size of {BUCKET // 2**20} MiB" in source


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "own", "copied"),
    [("gemma4-e4b-pet", 15.46, 20.79), ("gemma4-31b-pet", 21.16, 22.06), ("E4B in NF4", None, 14.33)],
)
def test_wrapping_peaks_are_those_measured(name, own, copied):
    """GiB on two H100, torch 2.11, 2026-11-26: with frozen tensors named to DDP, and without."""
    recipe = Path(str(files("vlcheck"))) / "recipes" / f"{name}.yaml"
    run = load(recipe) if recipe.exists() else Run("google/gemma-4-E4B-it", rank=16).spec()
    config = catalogue.lookup(run.model.id).config
    found = Simulation(run, config, family_of(config))
    for out, measured in ((True, own), (False, copied)):
        tape = Tape()
        load_weights(found.stored, tape)
        wrapping_of(found.model, leaves_frozen_out=out, finds_unused=True).wrap(tape)
        if measured:
            assert play(tape).allocated_bytes / GIB == pytest.approx(measured, rel=0.003)
