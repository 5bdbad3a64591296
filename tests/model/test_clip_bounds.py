"""Clip bounds are read from local safetensors, scalars only; what cannot be read is said, never guessed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from tests import tiny
from tests.samples import Run
from vlcheck.engine import audit
from vlcheck.finding import Unavailable, Verdict
from vlcheck.model.clip_bounds import INDEX, read_bounds
from vlcheck.model.family import CLIP_BOUNDS

WRAPPERS = ["tower.0.q_proj", "tower.1.q_proj"]


def scalars(wrapper: str, value: float = 1.0) -> dict[str, torch.Tensor]:
    """The four bounds of one wrapper."""
    return {f"{wrapper}.{bound}": torch.tensor(value, dtype=torch.bfloat16) for bound in CLIP_BOUNDS}


def test_bounds_come_from_every_shard(tmp_path):
    """An index names the shards; each is opened for its scalars alone."""
    shards = {"a.safetensors": scalars(WRAPPERS[0], 2.0), "b.safetensors": scalars(WRAPPERS[1], 3.0)}
    for name, tensors in shards.items():
        save_file({**tensors, "weight": torch.zeros(4)}, tmp_path / name)
    save_file({"other": torch.zeros(4)}, tmp_path / "c.safetensors")
    weight_map = {key: name for name, tensors in shards.items() for key in tensors}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {**weight_map, "other": "c.safetensors"}}))

    stored = read_bounds(tmp_path, WRAPPERS)

    assert stored.files == 2
    assert stored.values == {WRAPPERS[0]: dict.fromkeys(CLIP_BOUNDS, 2.0), WRAPPERS[1]: dict.fromkeys(CLIP_BOUNDS, 3.0)}


def test_missing_bounds_are_absent(tmp_path):
    """A checkpoint without a wrapper's bounds yields no value for it."""
    save_file(scalars(WRAPPERS[0]), tmp_path / "model.safetensors")
    assert read_bounds(tmp_path, WRAPPERS).values[WRAPPERS[1]] == {}


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "needs weights"),
        ({"model.safetensors": b"not a tensor file"}, "model.safetensors cannot be read as safetensors"),
        ({"model.safetensors": b"\xff" * 64}, "model.safetensors cannot be read as safetensors"),
        ({INDEX: b"{"}, f"{INDEX} is damaged"),
        ({INDEX: b"[]"}, f"{INDEX} is damaged"),
        ({INDEX: b'{"weight_map": {"a.input_min": "../../etc/passwd"}}'}, "names a file outside its folder"),
        ({INDEX: b'{"weight_map": {"a.input_min": 7}}'}, "names a file outside its folder"),
        ({INDEX: b'{"weight_map": {"a.input_min": "gone.safetensors"}}'}, "gone.safetensors is named in"),
    ],
    ids=["none", "text", "hostile header", "cut index", "list index", "path", "number", "absent shard"],
)
def test_unreadable_checkpoint_is_a_skip_with_its_reason(files, reason, tmp_path):
    """Nothing outside the folder is opened, and no fault of a file ends the audit."""
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(Unavailable, match=reason.replace("(", r"\(")):
        read_bounds(tmp_path, WRAPPERS)


def test_catalogue_model_needs_weights():
    """A config without a folder has no checkpoint beside it."""
    with pytest.raises(Unavailable, match="needs weights"):
        read_bounds(None, WRAPPERS)


@pytest.mark.parametrize("stored", [tiny.FINITE, None], ids=["beside a checkpoint", "without one"])
def test_drawn_weights_have_no_stored_bounds(stored, tmp_path):
    """A run with `weights: random` reads no checkpoint: there is nothing to judge, and nothing to download."""
    spec = Run(bounds=stored).spec(tmp_path)
    drawn = replace(spec, model=replace(spec.model, weights="random"))

    (outcome,) = audit(drawn, select=("VLC107",), offline=True).outcomes

    assert outcome.verdict is Verdict.NOT_APPLICABLE
    assert outcome.reason == "model.weights is random: no checkpoint is read, so no stored bounds are used"
    assert outcome.unlock == ""


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({bound: value for bound, value in tiny.FINITE.items() if bound != "input_min"}, "14 clip bounds are missing"),
        ({**tiny.FINITE, "output_max": float("nan")}, "14 clip bounds are not finite"),
        ({**tiny.FINITE, "output_min": 5.0}, "14 clip bounds are reversed"),
    ],
    ids=["missing", "nan", "reversed"],
)
def test_each_fault_of_bounds_is_named(bounds, message, tmp_path):
    """VLC107 says which fault it is, how often, and where it is first seen."""
    (outcome,) = Run(bounds=bounds).audit(tmp_path, select=("VLC107",)).outcomes
    (finding,) = outcome.findings
    assert finding.message.startswith(message)
    assert finding.measured["expected bounds"] == 4 * tiny.VISION_WRAPPERS
