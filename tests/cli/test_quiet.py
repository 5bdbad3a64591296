"""Libraries are silent during an audit, and only then."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings

import pytest
import torch
import typer

from vlcheck.cli import quiet
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
def test_what_a_user_can_act_on_is_one_line(capfd, stopped, line):
    """Whichever command works, the same end: one line of stderr, exit code 2."""

    def work() -> None:
        with working(debug=False):
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
    with working(debug=False) as voice:
        chatter("inside")
        voice.line("step 1")
    assert capfd.readouterr() == ("step 1\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_line_takes_the_place_of_the_step(monkeypatch):
    """On a terminal of 80 columns the step fills one row, is wiped before each line, and comes back with the next."""
    monkeypatch.setattr(quiet, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = os.openpty()
    with open(theirs, "w", encoding="utf-8") as terminal, monkeypatch.context() as patched:  # noqa: PTH123
        patched.setattr(sys, "stdout", terminal)
        patched.setattr(sys, "stderr", terminal)
        with working(debug=False) as voice:
            voice.progress(f"Reading rows: {'x' * 100}")
            shown = read_until(ours, "Reading rows")
            voice.line("384 rows")
            voice.progress("Comparing rows: 12")
            shown += read_until(ours, "Comparing rows")
            voice.progress("")
            voice.line("step 1/60")
            shown += read_until(ours, "step 1/60")
    os.close(ours)
    rows = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", row).strip() for row in re.split(r"[\r\n]+", shown)]
    assert max(map(len, rows)) < 80
    assert [row for row in rows if row][-1] == "step 1/60"
    assert "\x1b[2K384 rows" in shown
    assert "\x1b[2Kstep 1/60" in shown


def read_until(terminal: int, word: str) -> str:
    """What a terminal shows until a word is among it."""
    shown = ""
    while word not in shown:
        shown += os.read(terminal, 4096).decode()
    return shown


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
