"""A run that was judged when it was begun is not judged again when it is taken up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.training.runs import small
from vlcheck.engine import train_run
from vlcheck.training import begun
from vlcheck.training.begun import begun_before
from vlcheck.training.manifest import MANIFEST


def test_a_resume_judges_nothing_again(parted):
    said: list[str] = []
    assert train_run(parted(), offline=True, say=said.append).resumed_from == 2
    assert said[0].startswith("audit: this run was begun before, by the same settings and versions")
    assert not any("errors, " in line for line in said)


def test_a_new_run_was_not_begun(tmp_path):
    assert not begun_before(small(tmp_path / "run"))


def test_a_finished_run_was_begun(finished):
    assert begun_before(finished())


@pytest.mark.parametrize(
    "change",
    [{"learning_rate": 1e-4}, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 1}, {"seed": 7}],
)
def test_other_settings_are_judged(parted, change):
    """How the effective batch is divided is one of them: the memory plan hangs on it."""
    spec = parted()
    assert begun_before(spec)
    assert not begun_before(replace(spec, training=replace(spec.training, **change)))


def test_other_versions_are_judged(parted, monkeypatch):
    spec, before = parted(), begun.installed()
    monkeypatch.setattr(begun, "installed", lambda: {**before, "torch": "99.0"})
    assert not begun_before(spec)


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", b'{"schema": "vlcheck.checkpoint/1"}'])
def test_a_damaged_folder_says_nothing(parted, tmp_path, content):
    spec = parted()
    for folder in (tmp_path / "run").glob("checkpoint-*"):
        (folder / MANIFEST).write_bytes(content)
    assert not begun_before(spec)


def test_a_state_of_odd_form_says_nothing(parted, tmp_path):
    spec = parted()
    for folder in (tmp_path / "run").glob("checkpoint-*"):
        (folder / "state.json").write_text("[1]")
    assert not begun_before(spec)
