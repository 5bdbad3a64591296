"""One simple explanation of keys that do not fit, or none."""

from __future__ import annotations

import pytest

from vlcheck.adapters.renamings import MOST_PREFIXES, prefix_changes, rewrapped

TAILS = ("q_proj.lora_A.weight", "q_proj.lora_B.weight", "up_proj.lora_A.weight", "up_proj.lora_B.weight")


def keys(prefix: str, layers: range = range(2), rank: int = 4, width: int = 8) -> dict[str, tuple[int, ...]]:
    """Adapters of a few layers."""
    return {
        f"{prefix}layers.{n}.{tail}": (rank, width) if "_A" in tail else (width, rank) for n in layers for tail in TAILS
    }


@pytest.mark.parametrize(("file", "model", "changes"), [
    (keys("b.m."), keys("b.m.m."), {"b.": "b.m."}),
    (keys(""), keys("b.m."), {"": "b.m."}),
    (keys("b.m.b.m."), keys("b.m."), {"b.m.": ""}),
    (keys("text.", rank=8), keys("model.text."), {"": "model."}),
    (keys("x.text.") | keys("vision.", width=16), keys("text.x.") | keys("x.vision.v.", width=16),
     {"x.text.": "text.x.", "vision.": "x.vision.v."}),
    (keys("x.text.") | keys("vision.", width=16), keys("x.vision.v.", width=16) | keys("text.x."),
     {"x.text.": "text.x.", "vision.": "x.vision.v."}),
])  # fmt: skip
def test_prefixes_are_found(file, model, changes):
    """The longest tail that all keys share stays as it is; shapes tell parts of equal names apart."""
    assert prefix_changes(file, model) == changes


@pytest.mark.parametrize(("file", "model"), [
    ({}, keys("a.")),
    (keys("a."), {}),
    (keys("a.", range(3)), keys("b.", range(2))),
    (keys("a.", range(1, 2)), keys("a.", range(1))),
    (keys("a.", width=16, rank=2), keys("b.")),
    ({**keys("a."), "c.k_proj.lora_A.weight": (4, 8)}, {**keys("b."), "c.v_proj.lora_A.weight": (4, 8)}),
    ({f"{n}x.q.lora_A.weight": (1, 1) for n in range(MOST_PREFIXES + 1)},
     {f"{n}y.q.lora_A.weight": (1, 1) for n in range(MOST_PREFIXES + 1)}),
], ids=["no key", "no place", "more layers", "another layer", "other widths", "one key left", "prefixes"])  # fmt: skip
def test_what_is_no_renaming_is_not_called_one(file, model):
    """Another layer, another width, or an exception for each key explains nothing."""
    assert prefix_changes(file, model) == {}


def test_only_wrappers_are_rewrapped():
    """`.linear` inside a clip wrapper, in either direction, and nowhere else."""
    wrapped, bare = "base_model.model.v.q.linear.lora_A.weight", "base_model.model.v.q.lora_A.weight"

    assert rewrapped([bare], {wrapped}, {"v.q"}) == {bare: wrapped}
    assert rewrapped([wrapped], {bare}, {"v.q"}) == {wrapped: bare}
    assert rewrapped([bare], {wrapped}, {"v.k"}) == {}
    assert rewrapped([bare], {bare}, {"v.q"}) == {}
    assert rewrapped(["base_model.model.v.q.weight"], {wrapped}, {"v.q"}) == {}
