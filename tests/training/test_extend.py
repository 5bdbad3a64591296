"""`--extend` goes on from a finished run, into a folder of its own; the finished run stays as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.training.runs import interrupted, run
from tests.training.test_ours import snapshot
from vlcheck.spec import ConfigError
from vlcheck.training.checkpoint import OtherRun, verify
from vlcheck.training.extend import extended
from vlcheck.training.record import read_metrics


def test_a_finished_run_is_gone_on_with(tmp_path, finished):
    """From its last step, at the learning rate that the longer run has there."""
    spec = finished()
    before = snapshot(tmp_path / "run")
    longer, origin = extended(spec, "2")
    assert longer.training.max_steps == 6
    assert longer.training.output_dir == f"{tmp_path / 'run'}-6-steps"
    trained = run(longer, origin=origin)
    assert (trained.steps, trained.resumed_from) == (6, 4)
    assert verify(trained.adapter).step == 6
    rates = [values["learning_rate"] for values in read_metrics(tmp_path / "run-6-steps")]
    assert rates == pytest.approx([spec.training.learning_rate * left / 6 for left in (2, 1)], rel=0.2)
    assert snapshot(tmp_path / "run") == before


def test_an_interrupted_extension_is_taken_up(tmp_path, finished):
    """By the same command, from its own checkpoint."""
    longer, origin = extended(finished(), "3 steps")
    longer = replace(longer, training=replace(longer.training, save_steps=1))
    interrupted(longer, 5, origin=origin)
    again, same = extended(replace(longer, training=replace(longer.training, output_dir=str(tmp_path / "run"),
                                                            max_steps=4)), "3 steps")  # fmt: skip
    assert (again.training.output_dir, same) == (longer.training.output_dir, origin)
    assert run(again, origin=same).resumed_from == 5


def test_other_data_is_refused(finished):
    spec = finished()
    longer, origin = extended(spec, "1")
    with pytest.raises(OtherRun, match=r"data\.rows"):
        run(replace(longer, data=replace(longer.data, instruction="What?")), origin=origin)


@pytest.mark.parametrize(
    ("asked", "change", "words"),
    [
        ("0", {}, "--extend is '0'; allowed: more steps or epochs"),
        ("2 days", {}, "--extend is '2 days'"),
        ("2 epochs", {}, "this run counts steps"),
        ("2", {"learning_rate": 1.0}, "holds another one"),
        ("2", {"output_dir": "nowhere"}, "nowhere lacks one"),
    ],
)
def test_what_cannot_be_extended_is_told(finished, asked, change, words):
    spec = finished()
    with pytest.raises(ConfigError, match=words):
        extended(replace(spec, training=replace(spec.training, **change)), asked)


def test_an_unfinished_run_is_not_extended(parted):
    with pytest.raises(ConfigError, match="goes on from a finished run"):
        extended(parted(), "2")
