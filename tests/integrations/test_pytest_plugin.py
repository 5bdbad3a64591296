"""`pytest --vlcheck`: a test a rule and config, fixtures, one audit a config; nothing where it is not asked for."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.runs import plan_of
from vlcheck.config.load import load_mapping
from vlcheck.engine import audit
from vlcheck.gpus import GIB, gpu
from vlcheck.integrations.config_tests import Failed, against_plan
from vlcheck.memory.measure import Measured
from vlcheck.memory.probe import ProbeResult
from vlcheck.rules import RULES

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parents[2]
PLUGIN = ("-p", "no:vlcheck", "-p", "vlcheck.integrations.pytest_plugin", "-p", "no:cacheprovider")
"""By its module, whether or not an installed vlcheck has an entry point."""
RUN = "model: {id: google/gemma-4-31B-it}\nlora: {target_modules: all-linear}\n"
PROJECT = """
[tool.vlcheck]
select = ["VLC107", "VLC901", "VLC902"]
fail-on = "warning"
"""


@pytest.fixture(scope="module", autouse=True)
def imported():
    """All that the runs below import: pytester forgets what a run imported, and torch is imported once only."""
    audit(load_mapping({"model": {"id": "google/gemma-4-31B-it"}, "lora": {"target_modules": "all-linear"}}),
          offline=True, select=["VLC107", "VLC901", "VLC902"])  # fmt: skip


@pytest.fixture
def project(pytester, monkeypatch):
    """A project with one run, and rules that need no model."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    pytester.makepyprojecttoml(PROJECT)
    Path("run.yaml").write_text(RUN, "utf-8")
    return pytester


def test_an_item_for_each_rule(project):
    """Found, skipped and not applicable are failure and skips, each with its text."""
    done = project.runpytest_inprocess(*PLUGIN, "--vlcheck", "run.yaml", "-rs")

    done.assert_outcomes(failed=1, skipped=2)
    done.stdout.fnmatch_lines(
        [
            "collected 3 items",
            "warning VLC901 framework-unnamed: The config does not say*",
            "*run.yaml:1: no framework is named: *",
            "*SKIPPED*not-applicable: *",
        ]
    )
    assert "Traceback" not in done.stdout.str()


def test_names_choose(project):
    """-k and -m see the rules' tests beside the project's own."""
    project.makepyfile("def test_own(): pass")

    assert project.runpytest_inprocess(*PLUGIN, "--vlcheck", "run.yaml", "-k", "own").parseoutcomes() == {
        "passed": 1, "deselected": 3,
    }  # fmt: skip
    assert project.runpytest_inprocess(*PLUGIN, "--vlcheck", "run.yaml", "-k", "argument").parseoutcomes() == {
        "deselected": 4,
    }
    listed = project.runpytest_inprocess(*PLUGIN, "--vlcheck", "run.yaml", "-m", "vlcheck", "--collect-only", "-q")
    listed.stdout.fnmatch_lines(["run.yaml::VLC107[[]clip-bounds[]]", "run.yaml::VLC901*", "run.yaml::VLC902*"])


def test_all_rules_without_a_project(pytester):
    """A test for each rule of `vlcheck audit`; collecting them audits nothing."""
    Path("run.yaml").write_text(RUN, "utf-8")
    listed = pytester.runpytest_inprocess(*PLUGIN, "--vlcheck", "run.yaml", "--collect-only", "-q")

    assert [line.split("::")[1].split("[")[0] for line in listed.outlines if "::" in line] == [r.code for r in RULES]


def test_ignores_and_baselines_count_as_skips(project):
    """With their reasons."""
    Path("run.yaml").write_text(RUN.replace("\n", "  # vlcheck: ignore[VLC901] known\n", 1), "utf-8")
    done = project.runpytest_inprocess(*PLUGIN, "--vlcheck", "run.yaml", "-rs", "-k", "VLC901")

    done.assert_outcomes(skipped=1, deselected=2)
    done.stdout.fnmatch_lines(["*ignored: known"])


@pytest.mark.parametrize(
    ("text", "options", "complaint"),
    [
        ("model: 3\n", (), "run.yaml:1:1: model is 3; *"),
        (RUN.replace("\n", "  # vlcheck: ignore[VLC996] x\n", 1), (), "*the comment ignores no rule 'VLC996'*"),
    ],
)
def test_a_config_that_cannot_be_used_is_one_failure(project, text, options, complaint):
    """Its problems are the text, each with its line."""
    Path("run.yaml").write_text(text, "utf-8")
    done = project.runpytest_inprocess(*PLUGIN, "--vlcheck", "run.yaml", *options)

    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines([f"*{complaint}"])
    assert "Traceback" not in done.stdout.str()


def test_no_such_config_is_a_usage_error(project):
    done = project.runpytest_inprocess(*PLUGIN, "--vlcheck", "nowhere.yaml")

    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: --vlcheck nowhere.yaml: no such file"])


OWN = """
def test_no_errors(vlcheck_audit):
    report = vlcheck_audit()
    assert [o.rule.code for o in report.outcomes] == ["VLC107", "VLC901", "VLC902"]
    assert report is vlcheck_audit("run.yaml")
    (outcome,) = vlcheck_audit("run.yaml", select=["VLC901"]).outcomes
    assert outcome.rule.code == "VLC901"
"""


def test_fixtures(project):
    """An audit is shared with the rules' tests."""
    project.makepyfile(OWN)
    done = project.runpytest_inprocess(*PLUGIN, "--vlcheck", "run.yaml", "--strict-markers", "-W", "ignore")

    done.assert_outcomes(passed=1, failed=1, skipped=2)


def test_a_card_is_asked_for_only_by_its_mark(project):
    """`-m gpu` adds the probe, and the gate of a config that has one; without a card both are skipped."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("the tests would run here")
    assert project.runpytest_inprocess(*PLUGIN, "--vlcheck", "run.yaml", "-m", "gpu").parseoutcomes() == {
        "skipped": 1, "deselected": 3,
    }  # fmt: skip
    Path("run.yaml").write_text(f"{RUN}gate: {{at_least: 0.9, rows: 10}}\n", "utf-8")
    done = project.runpytest_inprocess(*PLUGIN, "--vlcheck", "run.yaml", "-m", "gpu", "-rs")
    done.assert_outcomes(skipped=2, deselected=3)
    done.stdout.fnmatch_lines(["*no CUDA GPU"])


COLLATOR = """
def test_collator(vlcheck_collator):
    from tests.broken import collators
    from tests.label_samples import own
    from vlcheck.model.catalogue import lookup
    import pytest
    sound = own(lookup("google/gemma-4-26B-A4B-it").config)
    with pytest.raises(AssertionError, match="VLC207"):
        vlcheck_collator(collators.everything(sound.processor), sound.processor, select=["VLC207"])
"""


@pytest.mark.slow
def test_collator_fixture(project):
    """A collator is judged as `assert_collator` does."""
    project.makepyfile(COLLATOR)
    project.runpytest_subprocess(*PLUGIN, "-W", "ignore").assert_outcomes(passed=1)


COUNTING = """
import pathlib, vlcheck.engine
def counted(*args, audit=vlcheck.engine.audit, **kwargs):
    with pathlib.Path("audits").open("a") as file:
        file.write("x")
    return audit(*args, **kwargs)
vlcheck.engine.audit = counted
"""


def test_workers_collect_the_same(project, monkeypatch):
    """Under xdist the tests of a config go to one worker; here the config cannot be used, which takes no torch."""
    Path("run.yaml").write_text("model: 3\n", "utf-8")
    project.makepyfile("def test_own(): pass")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # others' plugins take seconds to import
    done = project.runpytest_subprocess(*PLUGIN, "-p", "xdist", "-n", "2", "--vlcheck", "run.yaml")

    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["FAILED run.yaml::config - *"])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_a_config_is_audited_once(project, workers):
    """Whatever the workers."""
    project.makeconftest(COUNTING)
    done = project.runpytest_subprocess(*PLUGIN, *workers, "--vlcheck", "run.yaml")

    done.assert_outcomes(failed=1, skipped=2)
    assert Path("audits").read_text() == "x"


CARDLESS = "from vlcheck.integrations import config_tests; config_tests.CardTest.setup = lambda self: None"


def test_a_probe_that_cannot_measure_is_skipped(project):
    """With the check for a card taken away the probe says itself what it needs."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("the probe would run here")
    project.makeconftest(CARDLESS)
    Path("run.yaml").write_text((ROOT / "vlcheck/recipes/tiny.yaml").read_text("utf-8"), "utf-8")
    done = project.runpytest_inprocess(*PLUGIN, "--vlcheck", "run.yaml", "-m", "gpu", "-rs")

    done.assert_outcomes(skipped=1, deselected=3)
    done.stdout.fnmatch_lines(
        ["*this machine has no CUDA GPU; to unlock: run `vlcheck probe` where the run will train"]
    )


@pytest.mark.parametrize(
    ("allocated_gib", "failure", "sound", "told"),
    [
        (30, "", True, "peak 30.0 GiB allocated, the plan's upper bound 3"),
        (90, "", False, "peak 90.0 GiB allocated, the plan's upper bound 3"),
        (None, "out of memory", False, "the steps were not finished: out of memory"),
    ],
)
def test_a_probe_is_held_against_its_plan(allocated_gib, failure, sound, told):
    """More than the upper bound fails, and so do steps that were not finished."""
    measured = None if allocated_gib is None else Measured(allocated_bytes=allocated_gib * GIB)
    found = ProbeResult(plan_of(gpu("h100")), measured, failure, 1.0, 1, 1)

    with contextlib.nullcontext() if sound else pytest.raises(Failed, match=told):
        assert against_plan(found).startswith(told)


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "at_least", "outcome"), [(60, 0.9, {"passed": 1}), (1, 0.99, {"failed": 1})])
def test_the_gate_trains_and_evaluates(project, steps, at_least, outcome):
    """On this machine's CPU, with the check for a card taken away: the tiny recipe learns in 60 steps, not in one."""
    project.makeconftest(CARDLESS)
    tiny = (ROOT / "vlcheck/recipes/tiny.yaml").read_text("utf-8").replace("max_steps: 60", f"max_steps: {steps}")
    Path("run.yaml").write_text(f"{tiny}\ngate: {{at_least: {at_least}}}\n", "utf-8")
    done = project.runpytest_subprocess(*PLUGIN, "--vlcheck", "run.yaml", "-m", "gpu", "-k", "gate", "-rP")

    done.assert_outcomes(**outcome, deselected=4)
    done.stdout.fnmatch_lines([f"*accuracy 0.* on * rows, the gate asks for {at_least} *"])


def test_importing_costs_nothing():
    """No library of vlcheck's comes with the plugin, and it takes less than 20 ms."""
    script = (
        "import pytest, sys, time; from importlib import import_module\n"
        "before = set(sys.modules); t = time.process_time()\n"
        "import_module('vlcheck.integrations.pytest_plugin')\n"
        "print(time.process_time() - t, *sorted({m for m in set(sys.modules) - before if m.startswith('vlcheck')}))\n"
        "print(*sorted({m.partition('.')[0] for m in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, text=True, capture_output=True, check=True)
    first, second = done.stdout.splitlines()
    seconds, *ours = first.split()

    assert float(seconds) < 0.02
    assert ours == ["vlcheck", "vlcheck.integrations", "vlcheck.integrations.pytest_plugin", "vlcheck.versions"]
    assert not {"torch", "transformers", "pydantic", "ruamel", "typer", "rich"} & set(second.split())
