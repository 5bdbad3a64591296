"""Libraries are silent during an audit, and only then."""

from __future__ import annotations

import logging
import sys
import warnings

from vlcheck.cli.quiet import quieted, spinner


def chatter(word: str) -> None:
    """Speak through every channel that libraries use."""
    print(word)
    print(word, file=sys.stderr)
    logging.getLogger("library").critical(word)
    warnings.warn(word, stacklevel=1)


def test_hushed_only_inside(capfd, monkeypatch):
    """Nothing gets out inside; prints, records and warnings work again after it."""
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "info")
    filters = list(warnings.filters)
    with quieted():
        chatter("inside")
    assert capfd.readouterr() == ("", "")

    print("after")
    assert capfd.readouterr().out == "after\n"
    assert logging.root.manager.disable == logging.NOTSET
    assert warnings.filters == filters


def test_user_settings_win(monkeypatch):
    """A verbosity that the user set is not overwritten."""
    import os

    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "info")
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)
    with quieted():
        assert os.environ["TRANSFORMERS_VERBOSITY"] == "info"
        assert os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] == "1"


def test_no_spinner_without_a_terminal(capfd):
    """In a log there is nothing to spin."""
    with spinner() as progress:
        progress("step")
    assert capfd.readouterr() == ("", "")
