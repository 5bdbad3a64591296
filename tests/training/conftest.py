"""The recipe `tiny` with other lines, as for evaluation."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.evaluation.conftest import config
from tests.training.runs import interrupted, run, small
from vlcheck.spec import RunSpec

__all__ = ["config"]


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory) -> Path:
    """The folder of `small`, finished; to be read, or copied."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(small(folder))
    return folder


@pytest.fixture(scope="session")
def parted_run(tmp_path_factory) -> Path:
    """The folder of `small`, whose process died behind step 2; to be copied."""
    folder = tmp_path_factory.mktemp("parted") / "run"
    interrupted(small(folder), 2)
    return folder


@pytest.fixture
def finished(whole_run, tmp_path) -> Callable[[], RunSpec]:
    """Put a copy of the finished run into `run`."""
    return lambda: small(shutil.copytree(whole_run, tmp_path / "run"))


@pytest.fixture
def parted(parted_run, tmp_path) -> Callable[[], RunSpec]:
    """Put a copy of the interrupted run into `run`."""
    return lambda: small(shutil.copytree(parted_run, tmp_path / "run"))
