"""What tests of several folders share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vlcheck.cli.app import main


@pytest.fixture
def vlcheck(monkeypatch, capfd, tmp_path) -> Callable[..., tuple[int, str, str]]:
    """Run the command in an empty folder of its own: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vlcheck", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        return exit_.value.code, *capfd.readouterr()

    return run
