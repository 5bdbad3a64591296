"""The evaluation of a run that evaluates while it trains is a moment of its plan."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.memory.test_project import GEMMA, H100, spec
from vlcheck.memory.allocator import play
from vlcheck.memory.alternatives import changes
from vlcheck.memory.cache import CachedLayer, answering
from vlcheck.memory.project import Simulation
from vlcheck.memory.shape import Shape
from vlcheck.memory.tape import Tape
from vlcheck.model.families import family_of
from vlcheck.processing.lengths import Lengths, RowLength
from vlcheck.spec import Data
from vlcheck.training.settings import settings_of

SHAPE = Shape(tokens=64, soft_tokens=20)
VOCABULARY = 50_000
PIXELS = 9 * 768
"""Numbers of a soft token's patches."""
VALUES = GEMMA | {"text_config": GEMMA["text_config"] | {"vocab_size": VOCABULARY}}


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    """Of a run that evaluates 16 rows at a time."""
    run = spec(eval_strategy="steps", per_device_eval_batch_size=16, framework="transformers")
    return Simulation(replace(run, data=Data(eval_split="test")), VALUES, family_of(VALUES))


def test_a_large_evaluation_is_the_peak(simulation):
    """It grows with its own batch size and with logits over whole rows; training's does not."""
    settings = simulation.settings
    plans = {
        (rows, logits): simulation.plan(H100, SHAPE, replace(settings, eval_rows=rows, logits=logits))
        for rows, logits in ((1, "all"), (16, "supervised"), (16, "all"), (16, "fused"))
    }  # fmt: skip
    moments = {key: plan.moments["evaluation"] for key, plan in plans.items()}
    assert plans[16, "all"].moment == "evaluation"
    assert moments[16, "all"] - moments[16, "supervised"] > 4 * 16 * 50 * VOCABULARY
    assert moments[16, "fused"] == moments[16, "all"]
    assert moments[1, "all"] < moments[16, "all"]
    assert {key: plan.moments["forward"] for key, plan in plans.items() if key[1] == "all"} == {
        (1, "all"): plans[1, "all"].moments["forward"], (16, "all"): plans[1, "all"].moments["forward"]
    }  # fmt: skip
    for plan in plans.values():
        assert sum(line.size for line in plan.lines) == plan.allocated_bytes
        assert plan.shape.assumptions[-1].startswith("evaluation of")


def test_an_evaluation_keeps_nothing_for_a_backward_pass(simulation):
    """At training's batch size it takes less than a training step, and leaves the model training."""
    plan = simulation.plan(
        H100, replace(SHAPE, rows=16), replace(simulation.settings, eval_rows=16, checkpointing=False)
    )
    assert plan.moments["evaluation"] < plan.moments["forward, between the parts"]
    assert simulation.model.training
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("silent", [{"eval_strategy": "no"}, {"eval_strategy": "steps"}])
def test_a_run_that_does_not_evaluate_has_no_such_moment(silent):
    """Neither without a strategy nor without a split."""
    run = spec(**silent)
    run = replace(run, data=Data(eval_split="test" if silent["eval_strategy"] == "no" else None))
    assert Simulation(run, GEMMA, family_of(GEMMA)).settings.eval_rows == 0


def test_a_smaller_evaluation_is_the_first_remedy(simulation):
    """It changes nothing of what is trained."""
    assert changes(simulation.settings)[0][0] == "per_device_eval_batch_size: 1"


def test_the_split_that_is_evaluated_has_its_own_rows(simulation):
    """Longer ones take more, shorter ones less than rows as full as the trained; training's step is its own."""
    settings = replace(simulation.settings, eval_rows=2, logits="all")
    trained = (RowLength(64, 1, 20, 8, 20 * PIXELS),)

    def planned(*evaluated: RowLength):
        split = Lengths(evaluated) if evaluated else None
        simulation.lengths = Lengths(trained, evaluated=split)
        simulation._plans.clear(), simulation._evaluations.clear()
        return simulation.plan(H100, None, settings)

    try:
        unread, short = planned(), planned(RowLength(40))
        long = planned(*trained, RowLength(256, 1, 20, 200, 20 * PIXELS))
    finally:
        simulation.lengths = None
    assert long.moments["evaluation"] > unread.moments["evaluation"] > short.moments["evaluation"]
    assert {plan.moments["forward"] for plan in (unread, long, short)} == {unread.moments["forward"]}
    assert unread.shape.assumptions[-1].endswith("as full as the fullest training row")
    assert long.shape.assumptions[-1] == "evaluation of 2 rows at a time, each as full as the fullest of its 2 rows"


def asked(simulation, *, rows=3, tokens=64, supervised=8, answers=3):
    settings = replace(simulation.settings, eval_rows=rows, answers=answers)
    return simulation.plan(H100, replace(SHAPE, tokens=tokens, supervised=supervised), settings)


def test_rows_that_are_answered_hold_keys_and_values(simulation):
    """Of every layer, beside the forward pass; vlcheck's own loop answers a few rows, others none."""
    plan = asked(simulation)
    held = sum(layer.width for layer in simulation.cached) * 2 * 3 * 64
    assert len(simulation.cached) == 2
    assert plan.moments["answers of an evaluation"] - plan.moments["evaluation"] >= held
    assert "answers of an evaluation" not in asked(simulation, answers=0).moments
    run = replace(spec(eval_strategy="steps", framework="trl"), data=Data(eval_split="test"))
    assert settings_of(run).answered_rows == 0
    run = replace(spec(eval_strategy="steps", metric_for_best_model="accuracy"), data=Data(eval_split="test"))
    assert settings_of(run).answered_rows == 8


@given(
    st.lists(st.tuples(st.integers(1, 64), st.none() | st.integers(1, 40)), min_size=1, max_size=4),
    st.integers(1, 4), st.integers(1, 40), st.integers(0, 60), st.integers(1, 5),
)  # fmt: skip
def test_more_rows_tokens_or_answers_never_lower_what_answers_take(layers, rows, prompt, answer, more):
    """A window bounds what a layer holds of an answer, not what it holds of its prompt."""
    cached = tuple(CachedLayer(*layer) for layer in layers)

    def peak(*, width=2, **given):
        tape = answering(Tape(), cached, width=width, **({"rows": rows, "prompt": prompt, "answer": answer} | given))
        return play(tape).allocated_bytes

    least = peak()
    assert least <= min(peak(rows=rows + more), peak(prompt=prompt + more), peak(answer=answer + more), peak(width=4))
    assert least >= sum(2 * rows * layer.width * layer.tokens(prompt + answer) for layer in cached)
    assert [layer.tokens(10**6) for layer in cached if layer.window] == [
        layer.window for layer in cached if layer.window
    ]
