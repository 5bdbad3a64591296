"""Evidence is collected once, and whoever waits is told what is being worked on now."""

from __future__ import annotations

import functools
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.photos import write_json_lines
from vlcheck.config.load import load
from vlcheck.engine import audit
from vlcheck.evidence.collectors import COLLECTORS
from vlcheck.evidence.resolve import Evidence, one_thread
from vlcheck.finding import NotApplicable, Unavailable, collector, label_of
from vlcheck.processing.resolved_run import ResolvedRun
from vlcheck.spec import Data

RECIPE = Path(str(files("vlcheck") / "recipes" / "tiny.yaml"))


@collector("laying the foundation")
def foundation(progress):
    """What everything stands on."""
    progress("digging")
    return 1


@collector("raising the walls")
def walls(foundation):
    """What stands on it."""
    return foundation + 1


@pytest.fixture
def told(monkeypatch) -> list[str]:
    """What a spinner would have shown, with two small collectors among the real ones."""
    monkeypatch.setitem(COLLECTORS, "foundation", foundation)
    monkeypatch.setitem(COLLECTORS, "walls", walls)
    return []


def test_the_outer_label_comes_back_after_the_inner_one(told):
    """A collector that needs another one shows its own label again once that is there."""
    evidence = Evidence(load(RECIPE), {}, progress=told.append)

    assert evidence.call(lambda walls: walls, "building") == 2
    assert told == [
        "building", "raising the walls", "laying the foundation", "digging", "raising the walls", "building",
    ]  # fmt: skip


def test_what_is_there_already_shows_no_label(told):
    """Evidence is collected once; asking for it again is no work."""
    evidence = Evidence(load(RECIPE), {}, progress=told.append)
    assert evidence.get("walls") == 2
    told.clear()

    assert evidence.get("walls") == evidence.get("foundation") + 1 == 2
    assert told == []


def test_a_failure_gives_the_outer_label_back(told, monkeypatch):
    """Whoever handles what could not be had is working again."""

    @collector("failing")
    def failing():
        raise Unavailable("not here")

    monkeypatch.setitem(COLLECTORS, "walls", failing)
    evidence = Evidence(load(RECIPE), {}, progress=told.append)
    with pytest.raises(Unavailable, match="not here"):
        evidence.call(lambda walls: walls, "building")

    assert told == ["building", "failing", "building"]


def test_every_collector_works_under_its_own_label(monkeypatch):
    """No label of one collector stands there while another one works: the user's patch least of all."""
    told: list[str] = []
    shown: dict[str, str] = {}

    def watched(name, collect):
        @functools.wraps(collect)
        def watching(**needed):
            shown[name] = told[-1]
            return collect(**needed)

        return watching

    for name, collect in list(COLLECTORS.items()):
        monkeypatch.setitem(COLLECTORS, name, watched(name, collect))
    spec = load(RECIPE)
    evidence = Evidence(spec, {}, offline=True, progress=told.append)
    for name in COLLECTORS:
        try:
            evidence.get(name)
        except (Unavailable, NotApplicable, KeyError):
            continue  # the tiny run has no card and no saved adapter

    assert {"patch", "skeleton", "reference", "checks", "trial", "scan"} < shown.keys()
    assert shown == {name: label_of(COLLECTORS[name]) for name in shown}


def test_labels_and_docstrings_are_two_things():
    """A label says what is being done, in lower case; a docstring says what comes back."""
    for name, collect in COLLECTORS.items():
        label, title = label_of(collect), (collect.__doc__ or "").partition("\n")[0]
        assert label, name
        assert label[0].islower(), name
        assert not label.endswith("."), name
        assert title.endswith((".", ":")), name
        assert label.lower() != title.rstrip(".").lower(), name


def test_the_parts_of_a_resolved_run_are_the_rules_own():
    """Training and evaluation get the very objects that the rules judge."""
    evidence = Evidence(load(RECIPE), {}, offline=True)
    run = evidence.get("resolved_run")

    assert isinstance(run, ResolvedRun)
    for name, part in (("config", run.config), ("family", run.family), ("processor", run.processor)):
        assert evidence.get(name) is part
    assert run.collator is evidence.get("own_collator") is evidence.get("candidate").call


@pytest.mark.parametrize("overflow", ["error", "drop"])
def test_a_long_row_behind_those_that_are_judged_is_found(tmp_path, overflow):
    """Labels are judged on a few rows; of all rows the length is held against `max_length`."""
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    write_json_lines(
        tmp_path / "train.jsonl",
        [{"image": "red.png", "label": "red " * (60 if number == 7 else 1)} for number in range(9)],
    )
    spec = load(RECIPE)
    data = Data(
        path=str(tmp_path), instruction="Which?", max_soft_tokens=70, max_length=110, overflow=overflow,
    )  # fmt: skip
    found = audit(replace(spec, data=data), offline=True, rows=2, select=("VLC203", "VLC226")).found()
    code, text = ("VLC203", "train.jsonl:8: ") if overflow == "error" else ("VLC226", "1 of 9 rows are longer than 110")
    assert [(each.rule.code, text in each.findings[0].message) for each in found] == [(code, True)]
    assert "train.jsonl:8" in found[0].findings[0].message


def test_threads_of_torch_come_back_after_an_audit():
    """A script that audits its own run goes on with as many as it had."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
