"""Kill -9 and SIGTERM at many moments of a run; a few here, hundreds with `-m slow` (see `crash.py`)."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.training import crash

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks a process with imported libraries")
LOG = os.environ.get("VLCHECK_CRASH_LOG")


def check(found, trials: int) -> None:
    found = list(found)
    if LOG:
        with Path(LOG).open("a") as file:
            file.writelines(json.dumps(each) + "\n" for each in found)
    assert len(found) == trials
    assert [each for each in found if not each["usable"]] == []
    assert [each for each in found if not each["identical"]] == []
    assert max(each["lost"] for each in found) <= crash.EVERY


def test_killed(tmp_path):
    check(crash.kill_trials(tmp_path, 6), 6)


def test_terminated(tmp_path):
    found = list(crash.terminate_trials(tmp_path, 3))
    check(found, 3)
    assert {each["code"] for each in found} <= {128 + 15, 0}
    assert {each["lost"] for each in found} == {0}
    assert max(each["seconds"] for each in found) < 5


@pytest.mark.slow
def test_killed_180_times(tmp_path):
    check(crash.kill_trials(tmp_path, 180), 180)


@pytest.mark.slow
def test_terminated_50_times(tmp_path):
    found = list(crash.terminate_trials(tmp_path, 50))
    check(found, 50)
    assert max(each["seconds"] for each in found) < 5


@pytest.mark.slow
def test_the_command_killed_20_times(tmp_path):
    check(crash.command_trials(tmp_path, 20), 20)
