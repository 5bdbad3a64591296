"""How a command ends, whatever happens in it."""

from __future__ import annotations

import sys

import pytest
import typer

from vlcheck.cli.streams import fail, guarded
from vlcheck.spec import ConfigError, Location, Problem

TWO_PROBLEMS = ConfigError(Problem(Location("a.yaml", 1, 2), "one"), Problem(Location("a.yaml", 3, 4), "two\x1b[2J"))


def ended(raised: BaseException, capsys: pytest.CaptureFixture[str], **options: object) -> tuple[int, str]:
    """Exit code and stderr of a command that raises."""

    @guarded
    def command(**options: object) -> None:
        raise raised

    with pytest.raises(typer.Exit) as exit_:
        command(**options)
    return exit_.value.exit_code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "code", "stderr"),
    [
        (TWO_PROBLEMS, 2, "error: a.yaml:1:2: one\nerror: a.yaml:3:4: two\\x1b[2J\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (SystemExit(0), 2, "error: code that the audit ran called sys.exit(0)\n"),
        (typer.Exit(1), 1, ""),
    ],
)
def test_ends(raised, code, stderr, capsys):
    """Each way out has its code and its lines."""
    assert ended(raised, capsys) == (code, stderr)


def test_fault_of_ours_is_one_line(capsys):
    """A fault names its place, and how to see more where the command has a way."""
    code, stderr = ended(KeyError("a\nb"), capsys)
    assert code == 2
    assert stderr.startswith("internal error: KeyError: 'a\\nb' (test_streams.py:")
    assert stderr.endswith("); please report it\n")

    _, stderr = ended(ValueError("a\nb"), capsys, debug=False)
    assert stderr.splitlines()[1:] == ["run again with --debug for the traceback"]


def test_debug_lets_the_traceback_through():
    """With --debug a fault is raised as it is."""

    @guarded
    def command(debug: bool) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        command(debug=True)


def test_fail_prints_every_problem(capsys):
    """Problems are lines of stderr, one each."""
    with pytest.raises(typer.Exit):
        fail("one", "two\nlines")
    assert capsys.readouterr().err == "error: one\nerror: two lines\n"


def test_streams_come_back(capsys):
    """A command that loses the streams on its way out is still heard."""

    @guarded
    def command() -> None:
        sys.stderr = None
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit):
        command()
    assert capsys.readouterr().err == "interrupted\n"
