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
EACH = 6
"""A kind is planted by default in one of so many structures, the next kind in those beside them."""


def sampled(kind: str, at: int) -> list[str]:
    """The structures in which a kind is planted by default."""
    able = [hub_id for hub_id, planted in PLANTED if planted == kind]
    return able[at % min(EACH, len(able)) :: EACH]


SAMPLED = [(hub_id, kind) for at, kind in enumerate(KINDS) for hub_id in sampled(kind, at)]


def assert_found(hub_id: str, kind: str, folder) -> None:
    """Exactly the codes that the fault is known by."""
    report = FAULTS[kind].report(miniature(hub_id), folder)

    assert {o.rule.code for o in report.found()} == set(FAULTS[kind].codes.split())


@pytest.mark.parametrize(("hub_id", "kind"), SAMPLED)
def test_planted_fault_is_found(hub_id, kind, tmp_path):
    """A sixth of the kinds that a structure can have."""
    assert_found(hub_id, kind, tmp_path / "adapter")


@pytest.mark.slow
@pytest.mark.parametrize(("hub_id", "kind"), sorted(set(PLANTED) - set(SAMPLED)))
def test_every_planted_fault_is_found(hub_id, kind, tmp_path):
    """All the others."""
    assert_found(hub_id, kind, tmp_path / "adapter")


def test_every_kind_is_planted_by_default():
    """The sample leaves out no kind, and no structure."""
    assert {kind for _, kind in SAMPLED} == set(KINDS)
    assert {hub_id for hub_id, _ in SAMPLED} == set(SMALLEST)


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
