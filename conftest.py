"""Test profiles: offline, quiet, and two tempos for Hypothesis."""

from __future__ import annotations

import gc
import os

from hypothesis import HealthCheck, settings

os.environ["HF_HUB_OFFLINE"] = "1"  # before any test imports huggingface_hub
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers on two cores; tiny tensors gain nothing from more

gc.set_threshold(200_000, 20, 50)  # models are many small objects; collecting after every 700 took a third of the time

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("default"), max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_addoption(parser) -> None:
    """`--update-golden` writes the reports in fixtures/reports anew; read the difference before you commit it."""
    parser.addoption("--update-golden", action="store_true", help="write fixtures/reports anew")
