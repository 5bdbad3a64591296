"""Libraries are silent during an audit, and only then."""

from __future__ import annotations

import logging
import sys
import warnings

import pytest
import torch
import typer

from vlcheck.cli.quiet import quieted, refusals, spinner, working
from vlcheck.data.conversation import BadRow
from vlcheck.finding import Unavailable
from vlcheck.spec import ConfigError, Location, Problem


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


@pytest.mark.parametrize(
    ("stopped", "line"),
    [
        (Unavailable("no weights", "download them"), "error: no weights; download them\n"),
        (Unavailable("no\nweights"), "error: no weights\n"),
        (BadRow("row 3: no image"), "error: row 3: no image\n"),
        (torch.OutOfMemoryError("CUDA out of memory"), "error: CUDA out of memory\n"),
        (
            ImportError("No module named 'peft'"),
            "error: cannot import what this command needs: No module named 'peft'\n",
        ),
    ],
)
@pytest.mark.parametrize("spins", [True, False])
def test_what_a_user_can_act_on_is_one_line(capfd, stopped, line, spins):
    """Whichever command works, the same end: one line of stderr, exit code 2."""

    def work() -> None:
        with working(debug=False, spins=spins):
            chatter("inside")
            raise stopped

    with pytest.raises(typer.Exit) as left:
        work()

    assert left.value.exit_code == 2
    assert capfd.readouterr() == ("", line)


@pytest.mark.parametrize("stopped", [ZeroDivisionError("ours"), ConfigError(Problem(Location("a.yaml"), "no"))])
def test_the_rest_is_raised_as_it_is(stopped):
    """A fault of ours and a config's problems have ends of their own."""
    with pytest.raises(type(stopped)), working(debug=False):
        raise stopped


def test_debug_raises_what_would_be_a_line():
    """The traceback is what --debug is for."""
    with pytest.raises(Unavailable), working(debug=True):
        raise Unavailable("no weights")


def test_lines_pass_through_the_silence(capfd):
    """What a long command has to say reaches stdout while libraries are silent."""
    with working(debug=False, spins=False) as voice:
        chatter("inside")
        voice.line("step 1")
    assert capfd.readouterr() == ("step 1\n", "")


def test_user_code_is_looked_for_last(monkeypatch, tmp_path):
    """The working folder is searched only where the user's code may run, and shadows nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with working(debug=True):
        assert str(tmp_path) not in sys.path
    with working(debug=True, allow_code=True):
        assert sys.path[-1] == str(tmp_path)


def test_refusals_are_exceptions_of_ours_and_a_full_card():
    """No general exception is among them, which would hide faults."""
    assert not {Exception, RuntimeError, ValueError, OSError} & set(refusals())
