"""The receipt of a run on a GPU: what it says, what it adds up, and what a CI without a GPU holds against it."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timedelta

import pytest

from tests.gpu import receipt
from tests.gpu.receipt import GATES, merged, problems, state, told

ROOT = receipt.ROOT
TESTS = """
import pytest
pytestmark = pytest.mark.gpu

@pytest.mark.gate
def test_gate(record_property):
    record_property("accuracy", 0.97)

@pytest.mark.gate
@pytest.mark.skipif(True, reason="no weights: set VLCHECK_X")
def test_weights():
    raise AssertionError

def test_wrong():
    assert 1 == 2, "off by one"

@pytest.mark.slow
def test_never_asked():
    pass
"""


@pytest.fixture(scope="module")
def here():
    return {**state(ROOT), "gpu": {"name": "H100"}}


@pytest.fixture
def sound(here):
    return {**here, "results": {f"tests/gpu/{gate}::test": {"outcome": "passed", "seconds": 1.0} for gate in GATES}}


def run(folder, *options):
    """Pytest over three tests, with the root's own conftest.py."""
    (folder / "test_three.py").write_text(TESTS)
    (folder / "conftest.py").write_text((ROOT / "conftest.py").read_text("utf-8"))
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  gpu:\n  slow:\n  gate:\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:vlcheck", "-p", "no:xdist", "-p", "no:cacheprovider", *options]
    paths = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=folder, env=paths, capture_output=True, text=True, check=False)
    return done.stdout, receipt.read(folder / "gpu-report.json")


def test_a_run_says_what_ran_and_what_did_not(tmp_path):
    """And a second part of it adds to the first."""
    out, found = run(tmp_path, "-m", "gpu and not slow", "--deselect", "test_three.py::test_wrong")
    assert "on a GPU: 1 ran (1 passed, 0 failed), 1 skipped\n  1 skipped: no weights: set VLCHECK_X\n" in out
    assert "receipt: gpu-report.json, 2 tests in all" in out
    assert found["versions"]["torch"] != "missing"
    out, found = run(tmp_path, "-m", "gpu and not slow", "--require-gate", "-k", "weights or wrong")
    results = {name.partition("::")[2]: result for name, result in found["results"].items()}
    assert list(results) == ["test_gate", "test_weights", "test_wrong"]
    assert (results["test_gate"]["outcome"], results["test_gate"]["accuracy"]) == ("passed", 0.97)
    assert results["test_weights"]["outcome"] == "failed"
    assert results["test_weights"]["reason"] == "the gate has not run: no weights: set VLCHECK_X"
    assert results["test_wrong"]["reason"] == "AssertionError: off by one"
    assert "on a GPU: 2 ran (0 passed, 2 failed), 0 skipped" in out


def test_a_sound_receipt_has_nothing_against_it(sound, here):
    assert not list(problems(sound, here, days=30))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sources": "0", "commit": "abc"}, "it is of other sources, commit abc"),
        ({"fixtures": {}}, "fixtures/gates.toml is another one since"),
        ({"gpu": None}, "it was written without a GPU"),
        ({"schema": "vlcheck.gpu/0"}, "there is no receipt of schema vlcheck.gpu/1"),
        ({"results": {}}, f"no test of {GATES[0]} has run: it was not asked for"),
    ],
)
def test_what_is_held_against_a_receipt(changes, says, sound, here):
    assert any(problem.startswith(says) for problem in problems({**sound, **changes}, here, days=30))


def test_its_age_counts(sound, here):
    late = {**here, "date": (datetime.fromisoformat(here["date"]) + timedelta(days=31)).isoformat()}
    assert list(problems(sound, late, days=30)) == ["it is 31 days old; allowed: 30"]


def test_a_gate_that_was_skipped_or_failed_is_none(sound, here):
    name, other = list(sound["results"])
    sound["results"][name] = {"outcome": "skipped", "reason": "no CUDA GPU"}
    sound["results"][other] = {"outcome": "failed", "reason": "0.4 < 0.9"}
    found = list(problems(sound, here, days=30))
    assert f"no test of {GATES[0]} has run: no CUDA GPU" in found
    assert f"{other} failed: 0.4 < 0.9" in found


def test_parts_of_other_sources_are_forgotten(sound, here):
    now = {**here, "results": {"b": {"outcome": "passed"}}}
    assert list(merged(sound, now)["results"]) == [*sound["results"], "b"]
    for key in ("sources", "fixtures", "gpu", "versions"):
        assert list(merged({**sound, key: "another"}, now)["results"]) == ["b"]
    assert merged(None, now) == now


def test_reasons_are_counted():
    skipped = {"outcome": "skipped", "reason": "no CUDA GPU"}
    assert list(told({"a": skipped, "b": skipped})) == [
        "on a GPU: 0 ran (0 passed, 0 failed), 2 skipped", "  2 skipped: no CUDA GPU"
    ]  # fmt: skip


def test_the_command_ends_with_a_verdict(tmp_path, monkeypatch, capsys, sound, here):
    file = tmp_path / "gpu-report.json"
    monkeypatch.setattr(sys, "argv", ["receipt", str(file)])
    with pytest.raises(SystemExit) as left:
        receipt.main()
    assert left.value.code
    assert "there is no receipt" in capsys.readouterr().out
    file.write_text(json.dumps(sound))
    with pytest.raises(SystemExit) as left:
        receipt.main()
    assert not left.value.code
    assert "as it should be" in capsys.readouterr().out
