"""Snapshots: the same run gives the same file, and what another run measures is named with its difference."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from tests.samples import BASE, LENGTHS, judged_labels, tiny
from vlcheck.engine import audit
from vlcheck.evidence.resolve import Evidence
from vlcheck.evidence.snapshot import Snapshot, read_snapshot, render_snapshot
from vlcheck.finding import Verdict
from vlcheck.model.config import ModelConfig
from vlcheck.spec import ConfigError


@cache
def taken(r: int = 4) -> Snapshot:
    """A tiny run's, without a card and without data; lengths are handed in."""
    given = {**judged_labels(tiny.gemma4), "config": ModelConfig(tiny.gemma4(), "test"), "lengths": LENGTHS}
    evidence = Evidence(replace(BASE, lora=replace(BASE.lora, r=r)), given, offline=True)
    return evidence.get("snapshot")


def found(earlier: Snapshot, now: Snapshot):
    (outcome,) = audit(BASE, select=["VLC904"], earlier=earlier, snapshot=now).outcomes
    return outcome


def test_what_is_measured():
    """Adapters by part, the supervised ids of each row, lengths; no memory where no card is named."""
    values = taken().values

    assert list(values) == ["adapters", "labels", "lengths"]
    assert values["adapters"]["vision tower: adapted"] == 15
    assert [row.split(", ")[0].split(" of ")[0] for row in values["labels"].values()] == ["4"] * 4
    assert values["lengths"]["longest"] == 384


def test_a_file_is_the_same_for_the_same_run(tmp_path):
    """Measured twice, written and read."""
    path = tmp_path / "snapshot.json"
    path.write_text(render_snapshot(taken()), "utf-8")
    taken.cache_clear()

    assert render_snapshot(taken()) == path.read_text("utf-8")
    assert read_snapshot(path) == taken()
    assert found(read_snapshot(path), taken()).verdict is Verdict.PASSED


def test_another_rank_is_told_by_its_numbers():
    """What moved, from what, to what, and by how much; versions that changed stand beside."""
    before = replace(taken(), versions={"peft": "0.20.0"})
    outcome = found(before, taken(8))

    (finding,) = outcome.findings
    assert finding.message.startswith("adapters: ")
    assert "language model: adapter parameters " in finding.message
    assert finding.where.key == "lora"
    assert finding.measured["peft"].startswith("0.20.0 -> ")
    before_count, after_count = finding.measured["language model: adapter parameters"]
    assert after_count == 2 * before_count


def test_bytes_are_told_in_gib():
    """And a value that is gone is none."""
    before, now = (
        Snapshot("none", {}, {"memory": {"card": "h100", "peak bytes": peak * 2**30, **more}})
        for peak, more in ((3, {"logits bytes": 2**30}), (4, {}))
    )
    assert found(before, now).findings[0].message == (
        "memory: 2 of 3 values moved: peak 3.0 GiB -> 4.0 GiB; logits 1.0 GiB -> none"
    )


def test_without_a_snapshot_there_is_nothing_to_judge():
    (outcome,) = audit(BASE, select=["VLC904"]).outcomes
    assert (outcome.verdict, outcome.reason) == (Verdict.NOT_APPLICABLE, "no earlier snapshot was named (--against)")


def test_a_subject_that_cannot_be_measured_is_no_change():
    """Where none can, the rule is skipped."""
    before = Snapshot("none", {}, {"memory": {"peak bytes": 1}})
    assert found(before, taken()).verdict is Verdict.SKIPPED


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "snapshot no such file; `vlcheck snapshot` writes one"),
        ("{", "snapshot is no snapshot of version 1 (JSONDecodeError: "),
        ("[1]", "snapshot is no snapshot of version 1 (TypeError: "),
        ('{"schema": "vlcheck-snapshot", "version": 2}', "snapshot is no snapshot of version 1 (ValueError: "),
        ('{"schema": "vlcheck-snapshot", "version": 1, "values": {"a": 1}}', "snapshot is no snapshot of version 1 ("),
    ],
)
def test_no_snapshot(tmp_path, content, complaint):
    """One line, with the file."""
    path = tmp_path / "s.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"s\.json") as refused:
        read_snapshot(path)
    assert refused.value.problems[0].message.startswith(complaint)


@pytest.mark.slow
def test_the_command_and_the_audit_agree(vlcheck):
    """What the command wrote moves nothing until the run does."""
    text = (Path(__file__).parents[2] / "vlcheck/recipes/tiny.yaml").read_text("utf-8")
    small = text.replace("generated: shapes ", "generated: shapes\n  train_samples: 6\n  eval_samples: 3  ")
    Path("run.yaml").write_text(small, "utf-8")
    code, out, err = vlcheck("snapshot", "run.yaml", "--offline", "--rows", "2", "-o", "known.json")
    assert (code, err) == (0, "")
    next_step = "vlcheck audit run.yaml --against known.json tells what moved"
    assert out == f"wrote known.json: adapters, labels, lengths; {next_step}\n"
    assert json.loads(Path("known.json").read_text("utf-8"))["schema"] == "vlcheck-snapshot"

    against = ("--against", "known.json", "--select", "VLC904", "--offline", "--rows", "2")
    assert vlcheck("audit", "run.yaml", *against)[1].count("passed: VLC904") == 1
    Path("run.yaml").write_text(small.replace("Which colour is", "Tell me which colour"), "utf-8")
    code, out, _ = vlcheck("audit", "run.yaml", *against, "--fail-on", "warning")
    assert code == 1
    assert "lengths: " in out
    assert "longest" in out
    assert vlcheck("audit", "run.yaml", "--against", "none.json")[0] == 2
