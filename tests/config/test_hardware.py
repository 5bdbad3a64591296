"""Hardware that options name outranks the config's."""

from __future__ import annotations

import pytest

from vlcheck.config.hardware import on_hardware
from vlcheck.config.load import load_mapping

RUN = {"model": {"id": "org/name"}, "lora": {}, "hardware": {"gpu": "l4", "memory_gib": 12, "count": 2}}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("l4", 12, 2)),
        ({"gpu": "h100"}, ("h100", None, 2)),
        ({"memory_gib": 48}, (None, 48, 2)),
        ({"gpu": "l4", "memory_gib": 20, "gpus": 1}, ("l4", 20, 1)),
        ({"gpus": 8}, ("l4", 12, 8)),
    ],
)
def test_options_outrank_the_file(options, expected):
    """A card that is named replaces the config's, its memory included; the number of cards is apart."""
    spec = on_hardware(load_mapping(RUN), **options)

    assert (spec.hardware.gpu, spec.hardware.memory_gib, spec.hardware.count) == expected
    named = "gpu" in options or "memory_gib" in options
    assert spec.where("hardware.gpu").file == ("<command line>" if named else "<python>")


def test_audit_takes_them(vlcheck, tmp_path):
    """`audit --memory-gib` judges a run whose config names no card; what is not a memory is refused."""
    (tmp_path / "run.yaml").write_text("model: {id: vlcheck/tiny-gemma4, weights: random}\nlora: {}\n")

    code, out, _ = vlcheck("audit", "run.yaml", "--offline", "--select", "VLC302", "--memory-gib", "0.05")
    assert code == 1
    assert "error VLC302 over-budget  <command line>:1" in out
    assert vlcheck("audit", "run.yaml", "--memory-gib", "0")[0] == 2
