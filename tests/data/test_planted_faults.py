"""Each fault of the table, planted alone into sound data, brings up its code with its row, and no other code."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.faults import FAULTS, data_of, write_sound
from tests.photos import SHARED
from tests.samples import gathered
from vlcheck import audit
from vlcheck.evidence.resolve import Evidence
from vlcheck.finding import Report, Verdict
from vlcheck.spec import Lora, ModelRef, RunSpec

PETS = SHARED / "pets"
needs_pets = pytest.mark.skipif(not PETS.is_dir(), reason="needs the real photos of ../shared/data/pets")


def run_on(folder: Path, **fields) -> RunSpec:
    """A run of a model whose images cost tokens by the pixel."""
    model = ModelRef(id="Qwen/Qwen2.5-VL-7B-Instruct")
    return RunSpec(model=model, lora=Lora(target_modules="all-linear"), data=data_of(folder, **fields))


@cache
def of_model(model: ModelRef) -> dict[str, Any]:
    """What every run of a model is judged with, collected with the first of them."""
    evidence = Evidence(RunSpec(model=model, lora=Lora()), {}, offline=True)
    return gathered(evidence, ("config", "reference", "processor"))


def scanned(spec: RunSpec) -> Report:
    report = audit(spec, select=("VLC5",), offline=True, **of_model(spec.model))
    assert not report.with_verdict(Verdict.ERROR), report.with_verdict(Verdict.ERROR)
    return report


def codes(report: Report) -> set[str]:
    return {outcome.rule.code for outcome in report.found()}


def said(report: Report, code: str) -> str:
    """All that a rule's findings say, with the rows they list."""
    (outcome,) = (outcome for outcome in report.found() if outcome.rule.code == code)
    return json.dumps([[f.message, dict(f.measured)] for f in outcome.findings], ensure_ascii=False)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return write_sound(tmp_path_factory.mktemp("sound") / "data")


def copied(sound: Path, folder: Path) -> Path:
    return Path(shutil.copytree(sound, folder / "data"))


def test_sound_data_is_silent(sound):
    """Nothing is raised, and every rule looked at something or says why it does not apply."""
    report = scanned(run_on(sound))
    assert codes(report) == set()
    assert {o.rule.code for o in report.outcomes if o.verdict is not Verdict.PASSED} == {
        "VLC512",  # a stand-in tokenizer
        "VLC525",  # no framework with placeholders
    }


def test_table_is_long_enough():
    """The number of docs/data.md, and every rule of the scan has one."""
    assert len(FAULTS) == 62
    from vlcheck.rules.choosing import choose

    formats = {f"VLC{number}" for number in range(521, 526)}  # planted in tests/samples.py: other forms of whole files
    scan_codes = {rule.code for rule in choose(("VLC5",))} - {"VLC512"} - formats
    assert {fault.code for fault in FAULTS.values()} == scan_codes


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_found_alone(name, sound, tmp_path):
    """Its code names its row; no other code is raised, but for what is true beside it."""
    fault = FAULTS[name]
    folder = copied(sound, tmp_path)
    row = fault.plant(folder)

    report = scanned(run_on(folder, **dict(fault.fields)))

    assert codes(report) == {fault.code} | fault.beside
    assert row.strip() in said(report, fault.code)


def test_all_faults_at_once(sound, tmp_path):
    """No fault hides another: of all that can be planted together, each is named."""
    folder = copied(sound, tmp_path)
    apart = {"no rows to evaluate on", "one label dominates", "slip of a letter", "training split evaluated"}
    planted = {name: FAULTS[name].plant(folder) for name in FAULTS.keys() - apart}

    report = scanned(run_on(folder, max_length=256))

    for name, row in planted.items():
        assert row in said(report, FAULTS[name].code), name


# --------------------------------------------------------------------------- the real photos


def pets(**fields) -> RunSpec:
    columns = {"image_column": "file", "answer_column": "breed", "train_split": "trainval", "eval_split": "test"}
    return run_on(PETS, **{**columns, **fields})


@pytest.mark.slow
@needs_pets
def test_sound_photos_are_silent_as_one_split(tmp_path):
    """All 940 in one split: nothing is raised."""
    rows = (PETS / "labels.csv").read_text("utf-8").splitlines()
    (tmp_path / "images").symlink_to(PETS / "images")
    (tmp_path / "labels.csv").write_text("\n".join(rows).replace(",trainval,", ",train,").replace(",test,", ",train,"))
    (tmp_path / "labels.csv").write_text(
        "\n".join(line.replace("cat,,", "cat,train,") for line in (tmp_path / "labels.csv").read_text().splitlines())
    )

    report = scanned(pets(path=str(tmp_path), train_split="train", eval_split=None))

    assert codes(report) == set()
    seen = {o.rule.code: o.examined[0].count for o in report.with_verdict(Verdict.PASSED)}
    assert seen["VLC501"] == 940


@needs_pets
def test_sound_photos_in_the_official_splits():
    """938 photos: all that is raised is one leak that the data set really has, the same photo with a watermark."""
    report = scanned(pets())
    assert codes(report) == {"VLC511"}
    (outcome,) = report.found()
    assert [f.message for f in outcome.findings] == [
        "labels.csv:201 (images/Abyssinian_99.jpg) and labels.csv:59 (images/Abyssinian_151.jpg): the same picture to "
        "the eye in both splits"
    ]


@needs_pets
def test_misnamed_originals_are_found():
    """Both files of the originals that are not what they are called, and nothing else about the 39 as images."""
    report = scanned(run_on(PETS / "originals", eval_split=None))

    assert "Abyssinian_34.jpg: GIF by content, .jpg by name" in said(report, "VLC502")
    assert "Abyssinian_5.jpg: PNG by content, .jpg by name" in said(report, "VLC502")
    (rows,) = (o.findings[0] for o in report.found() if o.rule.code == "VLC519")
    assert rows.measured["rows"] == 39  # no folder says their classes
    (odd,) = (o for o in report.found() if o.rule.code == "VLC504")
    assert {name for f in odd.findings for name in f.measured["rows"]} <= {"Abyssinian_34.jpg", "Abyssinian_5.jpg"}
    assert codes(report) == {"VLC502", "VLC504", "VLC519"}
