"""`pytest --vlcheck -m gpu` on a card: the probe and the gate of the tiny recipe, in a run of pytest of their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tests.integrations.test_pytest_plugin import PLUGIN, ROOT

pytest_plugins = ["pytester"]
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
    pytest.mark.skipif("PYTEST_XDIST_WORKER" in os.environ, reason="workers would share the card: run with -n 0"),
]
NF4 = """
quantization:
  load_in_4bit: true
  bnb_4bit_quant_type: nf4
  bnb_4bit_use_double_quant: true
  bnb_4bit_compute_dtype: bfloat16

gate: {at_least: 0.9}
"""
QLORA = (
    ("dtype: float32", "dtype: bfloat16"),
    ("optim: adamw_torch", "optim: paged_adamw_8bit\n  bf16: true\n  gradient_checkpointing: true"),
)
"""What makes the tiny recipe a QLoRA run, with NF4 behind it."""


@pytest.mark.parametrize(("steps", "outcome"), [(60, {"passed": 2}), (1, {"passed": 1, "failed": 1})])
def test_probe_and_gate(pytester, monkeypatch, steps, outcome):
    """The probe stays within its plan either way; the recipe passes its gate in 60 steps and fails it in one."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    recipe = (ROOT / "vlcheck/recipes/tiny.yaml").read_text("utf-8")
    for old, new in (*QLORA, ("max_steps: 60", f"max_steps: {steps}")):
        recipe = recipe.replace(old, new)
    Path("run.yaml").write_text(f"{recipe}{NF4}", "utf-8")
    done = pytester.runpytest_subprocess(*PLUGIN, "--vlcheck", "run.yaml", "-m", "gpu", "-rA", timeout=300)

    counted = done.parseoutcomes()
    assert {name: counted[name] for name in outcome} == outcome
    assert "skipped" not in counted
    done.stdout.fnmatch_lines_random(
        ["*peak * allocated, the plan's upper bound *", "*accuracy * on * rows, the gate asks for 0.9 *"]
    )
