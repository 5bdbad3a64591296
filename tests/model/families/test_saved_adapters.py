"""Adapters of every structure, saved by PEFT: each kind of fault is found, and the sound ones are passed."""

from __future__ import annotations

from functools import cache

import pytest

from tests.model.families.models import SMALLEST, miniature
from tests.saved_adapters import FAULTS, SOUND

KINDS = (
    "vision tower missing", "tensor of another layer", "unwrapped", "prefix twice", "rank of the config", "width",
    "copy missing", "tied copy", "no settings", "alpha", "rank of adapter_config", "base", "shards", "no tensors",
    "empty tensors", "tower at its start", "all at its start", "nan", "mixed types",
)  # fmt: skip
EACH = 11
"""A kind is planted by default in one of so many structures, the next kind in those beside them."""


@cache
def able(kind: str) -> tuple[str, ...]:
    """The structures that can have this fault; asked of their models, which are not built before a test runs."""
    return tuple(hub_id for hub_id in SMALLEST if FAULTS[kind].where(miniature(hub_id)))


def sampled(kind: str) -> tuple[str, ...]:
    """The structures in which a kind is planted by default."""
    return able(kind)[KINDS.index(kind) % min(EACH, len(able(kind))) :: EACH]


def assert_found(hub_id: str, kind: str, folder) -> None:
    """Exactly the codes that the fault is known by."""
    report = FAULTS[kind].report(miniature(hub_id), folder)

    assert {o.rule.code for o in report.found()} == set(FAULTS[kind].codes.split())


@pytest.mark.parametrize("kind", KINDS)
def test_planted_fault_is_found(kind, tmp_path):
    """In one of eleven structures that can have it, at least one."""
    for at, hub_id in enumerate(sampled(kind)):
        assert_found(hub_id, kind, tmp_path / f"adapter-{at}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hub_id", SMALLEST)
def test_every_planted_fault_is_found(hub_id, kind, tmp_path):
    """In each of them."""
    if hub_id not in able(kind):
        pytest.skip("has no such part")
    assert_found(hub_id, kind, tmp_path / "adapter")


def test_every_structure_is_planted_by_default():
    """The sample leaves out none, and every kind has its own test."""
    assert {hub_id for kind in KINDS for hub_id in sampled(kind)} == set(SMALLEST)
    assert all(sampled(kind) for kind in KINDS)


@pytest.mark.parametrize("hub_id", SMALLEST)
def test_sound_adapter_is_passed(hub_id, tmp_path):
    """An adapter as PEFT saved it brings up nothing, and every tensor was looked at."""
    report = SOUND["as saved"].report(miniature(hub_id), tmp_path / "adapter")

    assert not report.found()
    (missing,) = [o for o in report.outcomes if o.rule.code == "VLC701"]
    assert sum(seen.count for seen in missing.examined) > 20


def test_every_structure_has_fifteen_kinds():
    """No structure is left with a handful of faults to find."""
    assert min(sum(hub_id in able(kind) for kind in KINDS) for hub_id in SMALLEST) >= 15
