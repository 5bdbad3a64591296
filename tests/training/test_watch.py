"""What cannot be right stops a run at once; what looks wrong is said."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from tests.training.runs import parts, run, small
from vlcheck.training.checkpoint import verify
from vlcheck.training.watch import PATIENCE_STEPS, NotFinite, RunStopped, Watch, norms_by_part


def watch(intent=None):
    from vlcheck.spec import Intent

    weight = torch.nn.Parameter(torch.ones(4))
    return Watch({"model.language_model.layers.0.x": weight}, parts()["family"], intent or Intent()), weight


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops(loss):
    with pytest.raises(NotFinite, match="step 5: loss"):
        list(watch()[0].step(5, loss, {"language": 1.0}))


def test_a_gradient_that_is_no_number_stops_and_says_where():
    with pytest.raises(NotFinite, match="gradient of vision"):
        list(watch()[0].step(5, 1.0, {"language": 1.0, "vision": float("nan")}))


def test_a_large_norm_is_said_once():
    seen = [list(watch_.step(n, 1.0, {"language": 5e4})) for watch_ in [watch()[0]] for n in (1, 2)]
    assert "gradient norm 5e+04" in seen[0][0]
    assert seen[1] == []


def test_a_loss_above_its_start_is_said_once():
    own, _ = watch()
    told = [text for n in range(1, 60) for text in own.step(n, 1.0 if n == 1 else 1.5, {"language": 1.0})]
    assert len(told) == 1
    assert f"for {PATIENCE_STEPS} steps" in told[0]


def test_what_moved_is_silent_and_what_did_not_stops():
    from vlcheck.spec import Intent

    for moves in (True, False):
        own, weight = watch(Intent(language="train"))
        if moves:
            with torch.no_grad():
                weight[3] += 1e-6
        assert [list(own.moved(n)) for n in (1, 2)] == [[], []]
        if moves:
            assert list(own.moved(3)) == []
        else:
            with pytest.raises(RunStopped, match=r"step 3: intent\.language is train, but none of its 1 adapter"):
                list(own.moved(3))


def test_norms_add_up_to_the_whole(tmp_path):
    run(small(tmp_path, max_steps=1))
    line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert set(line["grad_norm"]) == {"vision", "projector", "language", "total"}
    squares = sum(norm**2 for part, norm in line["grad_norm"].items() if part != "total")
    assert line["grad_norm"]["total"] ** 2 == pytest.approx(squares)


def test_a_part_without_gradient_has_no_norm():
    assert norms_by_part({"model.language_model.x": torch.nn.Parameter(torch.ones(2))}, parts()["family"]) == {}


def test_a_run_that_becomes_nan_is_stopped_and_kept(tmp_path):
    """A patch of the user's breaks the fifth forward pass; the batch and the last finished step are on disk."""
    calls = []

    def patch(base):
        def broken(module, arguments, output):
            calls.append(1)
            return output * float("nan") if len(calls) == 5 else output

        base.model.language_model.layers[0].mlp.register_forward_hook(broken)

    with pytest.raises(NotFinite, match=r"its batches are in .*replay-step-3, step 2 is on disk") as raised:
        run(small(tmp_path, save_steps=99), patch=patch)
    step = int(str(raised.value).split(":")[0].removeprefix("step "))
    folder = tmp_path / f"replay-step-{step}"
    batch = load_file(folder / "process-0-micro-batch-0.safetensors")
    assert batch["input_ids"].shape == batch["labels"].shape
    assert len(json.loads((folder / "process-0-rows.json").read_text())) == 2
    assert verify(tmp_path / f"checkpoint-{step - 1}").step == step - 1


def test_a_frozen_tower_that_was_meant_to_train_stops_the_run(tmp_path):
    """The intent trains the vision tower, the adapters leave it out."""
    spec = small(tmp_path, max_steps=6)
    spec = replace(spec, lora=replace(spec.lora, target_modules=r".*language_model.*_proj"))
    with pytest.raises(RunStopped, match=r"step 3: intent\.vision is train, but it has no adapter"):
        run(spec)
    run(replace(spec, intent=replace(spec.intent, vision="freeze", projector="freeze")))
