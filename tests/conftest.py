"""What tests of several folders share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vlcheck.cli.app import main


@pytest.fixture(autouse=True, scope="session")
def pictures_are_cut_up_once() -> Iterator[None]:
    """Image processors of transformers remember; where no test file has imported it, there is nothing to save."""
    with pytest.MonkeyPatch.context() as patch:
        if "transformers" in sys.modules:
            from transformers.image_processing_utils import BaseImageProcessor

            from vlcheck.collators.remembered import remembering

            patch.setattr(BaseImageProcessor, "__call__", remembering(BaseImageProcessor.__call__))
        yield


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
