"""Whole runs at full size, from config to report: the recipes, the recipes of record, and golden reports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.samples import gathered
from tests.tiny import no_projection
from vlcheck import audit, load
from vlcheck.evidence.resolve import Evidence
from vlcheck.finding import Report, Severity, Verdict
from vlcheck.reports import RENDERERS
from vlcheck.reports.text import render
from vlcheck.spec import Data, Lora, ModelRef, RunSpec

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path.stem for path in (ROOT / "vlcheck/recipes").glob("*.yaml"))
LIKE_ANOTHER = ("gemma3-27b-pet-baseline", "gemma4-31b-pet-baseline", "gemma4-31b-pet-text-style")
"""Recipes that differ from `gemma4-31b-pet` in a few settings alone, which `test_recipe_can_be_compared` lists."""
TRAINED = ("tiny",)
"""A recipe whose whole audit `test_command.py` and the ways of the jobs take before they train it."""
HISTORY = {
    "1-gemma3-plain-names": {"VLC404", "VLC410", "VLC415"},
    "2-gemma4-linear-list": {"VLC106", "VLC217", "VLC401", "VLC404", "VLC410", "VLC806"},
    "3-gemma4-linear-list-slower": {"VLC106", "VLC217", "VLC401", "VLC404", "VLC410", "VLC806"},
    "4-gemma4-all-linear": {"VLC106", "VLC217", "VLC410", "VLC806"},
}
LIKE_OTHERS = ("4-gemma4-all-linear",)
"""A stage with no finding that another stage has not, and with the targets of a bundled recipe."""
SLOWER = {"3-gemma4-linear-list-slower": "2-gemma4-linear-list"}
"""A stage that differs from another in its learning rate alone."""
BESIDE = {
    "gemma3-27b-pet-baseline": {"model.id", "lora.modules_to_save", "data.max_soft_tokens"},
    "gemma4-31b-pet-baseline": set(),
    "gemma4-31b-pet-text-style": {"lora.target_modules", "intent.vision", "intent.projector"},
}
VERSIONS = {"torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2", "bitsandbytes": "0.50.2"}
"""What the golden texts say, whatever is installed here."""
GOLDEN = {
    "gemma4-31b-pet": "vlcheck/recipes/gemma4-31b-pet.yaml",
    "gemma4-31b-linear-list": "fixtures/configs/native/history/2-gemma4-linear-list.yaml",
    "gemma4-e4b-name-list": "fixtures/configs/native/bad/e4b-name-list.yaml",
    "gemma4-e4b-reentrant": "fixtures/configs/native/bad/e4b-reentrant.yaml",
}


@pytest.fixture(autouse=True)
def at_root(monkeypatch) -> None:
    """Reports name configs relative to the project's root."""
    monkeypatch.chdir(ROOT)


@cache
def audited(path: str, **given: Any) -> Report:
    """Audit a config offline, once for all tests of this file."""
    spec = load(path)
    return audit(spec, offline=True, **of_model(spec.model, spec.data.max_soft_tokens), **given)


@cache
def of_model(model: ModelRef, soft_tokens: int | None) -> dict[str, Any]:
    """What runs of one model share, collected with the first of them."""
    evidence = Evidence(RunSpec(model=model, lora=Lora(), data=Data(max_soft_tokens=soft_tokens)), {}, offline=True)
    return gathered(evidence, ("config", "reference", "processor", "own_collator", "candidate", "trial"))


def kept(names: Iterable[str], others: Iterable[str]) -> list[Any]:
    """All of them, those that are like another at `-m slow` alone."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in others else name for name in names]


@pytest.mark.parametrize("name", kept(RECIPES, (*LIKE_ANOTHER, *TRAINED, "gemma3-4b-pet")))
def test_bundled_recipe_is_sound(name):
    """No bundled recipe has a finding at warning level or above, and every rule ran or had nothing to judge."""
    report = audited(f"vlcheck/recipes/{name}.yaml")

    assert [o.rule.code for o in report.found(Severity.WARNING)] == []
    assert report.exit_code(fail_on=Severity.WARNING) == 0
    skipped = {o.rule.code for o in report.with_verdict(Verdict.SKIPPED)}
    without = ("VLC5",) if report.spec.hardware.gpu else ("VLC5", "VLC3")  # images need a Hub, memory a card
    # bounds, and whether the base is whole, need weights
    assert {code for code in skipped if not code.startswith(without)} <= {"VLC107", "VLC114"}


@pytest.mark.parametrize("name", sorted(BESIDE))
def test_recipe_can_be_compared(name):
    """What stands beside `gemma4-31b-pet` differs from it in the settings that are meant, and in no other."""
    own, other = (_flat(load(f"vlcheck/recipes/{each}.yaml")) for each in ("gemma4-31b-pet", name))

    differing = {path for path in own.keys() | other.keys() if own.get(path) != other.get(path)}
    assert differing == BESIDE[name] | {"training.output_dir"}


def test_every_recipe_is_like_another_or_audited():
    """What is left to `-m slow` is exactly what is held against an audited recipe, setting by setting."""
    assert set(LIKE_ANOTHER) == BESIDE.keys()
    assert len(set(RECIPES) - set(LIKE_ANOTHER)) >= 5
    assert all(HISTORY[stage] <= HISTORY["2-gemma4-linear-list"] for stage in LIKE_OTHERS)


@pytest.mark.parametrize("name", kept(HISTORY, (*SLOWER, *LIKE_OTHERS, "1-gemma3-plain-names")))
def test_recipe_of_record(name):
    """The four published stages of one sample: the `.linear` list misses the language model, and bypasses no clip.

    They name no card. What a stage would take is projected where its report is golden; of the others at `-m slow`.
    """
    path = f"fixtures/configs/native/history/{name}.yaml"
    assert_recorded(name, audited(path) if path in GOLDEN.values() else audited(path, projection=no_projection))


@pytest.mark.slow
@pytest.mark.parametrize("name", HISTORY)
def test_recipe_of_record_is_projected(name):
    """The same by all rules with what it would take, which memory rules are skipped with."""
    report = audited(f"fixtures/configs/native/history/{name}.yaml")

    assert_recorded(name, report)
    assert "projected: " in next(o.reason for o in report.outcomes if o.rule.code == "VLC302")


def assert_recorded(name: str, report: Report) -> None:
    """Its codes, and where the tower was left out the place of the list."""
    codes = HISTORY[name]
    assert {o.rule.code for o in report.found()} == codes
    assert {o.rule.code for o in report.found(Severity.WARNING)} == codes & {"VLC401", "VLC415"}
    if "VLC401" in codes:
        (outcome,) = report.found(Severity.ERROR)
        assert "language model has no adapter" in outcome.findings[0].message
        assert outcome.findings[0].where.line == 20


@pytest.mark.parametrize(("name", "other"), SLOWER.items())
def test_slower_recipe_of_record_has_another_rate_alone(name, other):
    """So whatever is found in the one is found in the other."""
    own, faster = (_flat(load(f"fixtures/configs/native/history/{each}.yaml")) for each in (name, other))

    assert {path for path in own.keys() | faster.keys() if own.get(path) != faster.get(path)} == {
        "training.learning_rate"
    }
    assert HISTORY[name] == HISTORY[other]


@pytest.mark.parametrize(("name", "config"), GOLDEN.items())
@pytest.mark.parametrize("form", ["txt", "verbose.txt", "json"])
def test_golden_report(name, config, form, request):
    """The whole text a user reads, in short and in full, and the whole document a program reads."""
    audit_report = replace(audited(config), versions=VERSIONS)
    if form == "json":
        report = undated(RENDERERS["json"](audit_report))
    else:
        report = render(audit_report, verbose=form == "verbose.txt")
    golden = ROOT / "fixtures/reports" / f"{name}.{form}"
    if request.config.getoption("--update-golden"):
        golden.write_text(report, "utf-8")

    assert report == golden.read_text("utf-8")


def test_default_report_is_short():
    """The sound recipe fits on a screen, and a faulty one says at once what to do."""
    sound = render(audited("vlcheck/recipes/gemma4-31b-pet.yaml")).splitlines()
    faulty = render(audited("fixtures/configs/native/history/2-gemma4-linear-list.yaml")).splitlines()

    assert len(sound) <= 25
    assert max(map(len, sound)) <= 100
    assert faulty[2].startswith("error VLC401 language-not-adapted  ")
    assert faulty[4] == "  fix: target_modules: all-linear"


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("width", [40, 80, 120])
def test_default_report_at_other_widths(name, width):
    """The same words at every width, coloured or not."""
    report = replace(audited(GOLDEN[name]), versions=VERSIONS)
    text = render(report, width=width)

    assert text.split() == render(report).split()
    assert re.sub(r"\x1b\[[0-9;]*m", "", render(report, width=width, color=True)) == text
    for line in text.splitlines()[:-1]:
        assert len(line) <= width or len(line.split()) == 1


def undated(report: str) -> str:
    """The document without what differs from run to run and from machine to machine."""
    document = json.loads(re.sub(r'"seconds": [0-9.]+', '"seconds": 0.0', report))
    document["versions"] = dict.fromkeys(document["versions"], "")
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _flat(spec: RunSpec) -> dict[str, object]:
    """Every setting of a run by its dotted path."""
    sections = {
        section.name: getattr(spec, section.name)
        for section in fields(spec)
        if section.name not in ("sources", "origin", "ignores") and getattr(spec, section.name) is not None
    }
    return {f"{name}.{key}": value for name, section in sections.items() for key, value in vars(section).items()}
