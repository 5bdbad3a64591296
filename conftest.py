"""Test profiles: offline, quiet, and two tempos for Hypothesis."""

from __future__ import annotations

import gc
import os
import re
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ["HF_HUB_OFFLINE"] = "1"  # before any test imports huggingface_hub
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers on two cores; tiny tensors gain nothing from more
# glibc gives tensors back to the kernel one by one, and asks for them again: a tenth of the time. Workers inherit it.
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**28))
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**30))

# Else every process compiles vlcheck and rewrites the tests' assertions anew: 9 of 19 seconds of collection.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

gc.set_threshold(200_000, 20, 50)  # models are many small objects; collecting after every 700 took a third of the time

settings.register_profile("default", deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("default"), max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config) -> None:
    """`pytest -m gpu` runs in one process: workers would share the card, and each other's memory peaks."""
    if re.fullmatch(r"\s*gpu\b.*", config.option.markexpr) and hasattr(config.option, "numprocesses"):
        config.option.numprocesses = 0


def pytest_addoption(parser) -> None:
    """`--update-golden` writes the reports in fixtures/reports anew; read the difference before you commit it."""
    parser.addoption("--update-golden", action="store_true", help="write fixtures/reports anew")
    parser.addoption("--require-gate", action="store_true", help="fail a gate that cannot be run, instead of skipping")
    parser.addoption("--gpu-report", default="gpu-report.json", metavar="FILE", help="receipt that `-m gpu` writes")


def pytest_configure(config) -> None:
    """A run on a GPU leaves a receipt; any other runs functions that bitsandbytes compiles as they are written.

    Compiling is what it imports inductor for, which takes each process two seconds.
    """
    if re.search(r"\bgpu\b", config.option.markexpr.replace("not gpu", "")):
        from tests.gpu.receipt import Receipt  # noqa: PLC0415  most runs write none

        config.pluginmanager.register(Receipt(Path(config.option.gpu_report)))
    else:
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Under `--require-gate` a gate that was skipped has failed: green never means not run."""
    report = yield
    if report.skipped and item.config.option.require_gate and item.get_closest_marker("gate"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"E   the gate has not run: {str(reason).removeprefix('Skipped: ')}"
    return report


def pytest_collection_finish(session) -> None:
    """What the test files imported stays: no collector of garbage has to look at it again."""
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure(config) -> None:
    """So does all else until the process ends, for which pytest looks five times over, and the interpreter once."""
    gc.freeze()


def pytest_terminal_summary(terminalreporter, config) -> None:
    """Say which tests were never asked to run."""
    if config.option.markexpr == "not gpu and not slow":
        terminalreporter.write_line(
            "left out: `pytest -m gpu` (needs a CUDA GPU), `pytest -m slow` (minutes to an hour)"
        )
