"""Adapters of every structure, saved by PEFT: each kind of fault is found, and the sound ones are passed."""

from __future__ import annotations

import pytest

from tests.model.families.models import SMALLEST, miniature
from tests.saved_adapters import FAULTS, SOUND

KINDS = (
    "vision tower missing", "tensor of another layer", "unwrapped", "prefix twice", "rank of the config", "width",
    "copy missing", "tied copy", "no settings", "alpha", "rank of adapter_config", "base", "shards", "no tensors",
    "empty tensors", "tower at its start", "all at its start", "nan", "mixed types",
)  # fmt: skip
PLANTED = [(hub_id, kind) for hub_id in SMALLEST for kind in KINDS if FAULTS[kind].where(miniature(hub_id))]


@pytest.mark.parametrize(("hub_id", "kind"), PLANTED)
def test_planted_fault_is_found(hub_id, kind, tmp_path):
    """Exactly the codes that the fault is known by."""
    report = FAULTS[kind].report(miniature(hub_id), tmp_path / "adapter")

    assert {o.rule.code for o in report.found()} == set(FAULTS[kind].codes.split())


@pytest.mark.parametrize("hub_id", SMALLEST)
def test_sound_adapter_is_passed(hub_id, tmp_path):
    """An adapter as PEFT saved it brings up nothing, and every tensor was looked at."""
    report = SOUND["as saved"].report(miniature(hub_id), tmp_path / "adapter")

    assert not report.found()
    (missing,) = [o for o in report.outcomes if o.rule.code == "VLC701"]
    assert sum(seen.count for seen in missing.examined) > 20


def test_every_structure_has_fifteen_kinds():
    """No structure is left with a handful of faults to find."""
    assert min(sum(model == hub_id for model, _ in PLANTED) for hub_id in SMALLEST) >= 15
