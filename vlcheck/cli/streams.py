"""How the command line speaks, writes and ends: whole lines and files, with a documented exit code."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from vlcheck.finding import Report, Severity

CLEAN, FOUND, COULD_NOT_RUN, INTERRUPTED = 0, 1, 2, 130


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """End a command in one line on stderr and a documented exit code, whatever happens in it.

    Only `--debug`, where a command has it, lets the traceback of a fault of ours through.
    """

    @functools.wraps(command)
    def guarding(**options: Any) -> None:
        try:
            # an interrupt may cut short whatever took the streams away: have them back for the last line
            with contextlib.redirect_stdout(sys.stdout), contextlib.redirect_stderr(sys.stderr):
                command(**options)
        except typer.Exit:
            raise
        except KeyboardInterrupt:
            tell("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except SystemExit as left:  # its code would pass for a verdict of ours
            fail(f"code that the audit ran called sys.exit({left.code!r})")
        except Exception as fault:
            from vlcheck.spec import ConfigError  # here, since `vlcheck rules` needs nothing of a run

            if isinstance(fault, ConfigError):
                if process_number():  # every process has read the same; the first one says it
                    raise typer.Exit(COULD_NOT_RUN) from None
                fail(*str(fault).splitlines())
            if options.get("debug"):
                raise
            tell(f"internal error: {_kind_and_place(fault)}; please report it")
            if "debug" in options:
                tell("run again with --debug for the traceback")
            raise typer.Exit(COULD_NOT_RUN) from None

    return guarding


def process_number() -> int:
    """Number of the process under a launcher of several; 0 alone."""
    rank = os.environ.get("RANK", "0")
    return int(rank) if rank.isdigit() else 0


def say(text: str, *, utf8: bool = False) -> None:
    """Print to stdout; a reader that went away (`| head`) is no error, a full disk is one.

    `utf8` is for formats that have this encoding whatever the terminal's is.
    """
    if sys.stdout is None:
        return
    if utf8 and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_stdout()
    except OSError as refused:
        _discard_stdout()
        fail(f"cannot write to stdout: {refused.strerror}")


def fail(*problems: str) -> NoReturn:
    """Print each problem on a line of stderr and exit with `COULD_NOT_RUN`."""
    for problem in problems:
        tell(f"error: {problem}")
    raise typer.Exit(COULD_NOT_RUN)


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all; end the command if it cannot be written."""
    from vlcheck.data.atomic_write import check_writable, write_whole

    try:
        check_writable(path)
        write_whole(path, text)
    except OSError as refused:
        fail(f"cannot write {refused.filename or path}: {refused.strerror}")


@dataclass(frozen=True)
class Delivery:
    """Where a report goes: into files, each in its format, and to stdout in one; or there by its last line alone."""

    files: tuple[tuple[str, Path], ...]
    printed: str | None


def destined(output: Sequence[str] | None, form: str | None, config: Path, *, usual: str | None = None) -> Delivery:
    """What --output and --format say; ends the command if a report cannot be written there, before any work for it.

    Args:
        output: paths, or FORMAT:PATH.
        form: the format of a file whose name does not say one; printed too, if it was named and no file has it.
        config: a file that no report may overwrite.
        usual: the format where none is named; text by default.
    """
    from vlcheck.data.atomic_write import check_writable
    from vlcheck.reports import destination

    files: dict[Path, tuple[str, Path]] = {}
    for given in output or ():
        try:
            wanted, name = destination(given, form or usual or "text")
        except ValueError as unknown:
            fail(f"--output {given}: {unknown}")
        path = Path(name)
        if path.resolve() == config.resolve():
            fail(f"--output {given} would overwrite the config")
        if path.resolve() in files:
            fail(f"--output {given} is named twice")
        try:
            check_writable(path)
        except OSError as refused:
            fail(f"cannot write {refused.filename or path}: {refused.strerror}")
        files[path.resolve()] = (wanted, path)
    taken = {wanted for wanted, _ in files.values()}
    return Delivery(
        tuple(files.values()), None if files and (form is None or form in taken) else form or usual or "text"
    )


def deliver(report: Report, delivery: Delivery, *, verbose: bool = False, fail_on: Severity | None = None) -> None:
    """Write a report where it goes; what is not printed whole is told by its last line.

    Args:
        verbose: for text.
        fail_on: for JUnit; errors where nothing is said.
    """
    from vlcheck.reports import RENDERERS
    from vlcheck.reports.summary import summarise

    options: dict[str, dict[str, Any]] = {
        "text": {"verbose": verbose},
        "junit": {"fail_on": fail_on} if fail_on is not None else {},
    }
    for form, path in delivery.files:
        write(path, RENDERERS[form](report, **options.get(form, {})))
    printed = delivery.printed
    if printed is None:
        say(f"{summarise(report)}; report written to {', '.join(str(path) for _, path in delivery.files)}\n")
    else:
        terminal = terminal_options() if printed == "text" else {}
        say(RENDERERS[printed](report, **options.get(printed, {}), **terminal), utf8=printed != "text")


def codes(option: str, given: Sequence[str] | None) -> tuple[str, ...]:
    """Split lists with commas; an option that was given but holds nothing is a mistake, not `all`."""
    found = tuple(code.strip() for entry in given or () for code in entry.split(",") if code.strip())
    if given and not found:
        fail(f"{option} holds no code")
    return found


def json_text(content: Any) -> str:
    """A document for programs, as every command prints it."""
    import json

    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def terminal_options() -> dict[str, Any]:
    """Width and colour of stdout; those of a file where it is no terminal."""
    if sys.stdout is None or not sys.stdout.isatty():
        return {}
    from shutil import get_terminal_size

    color = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return {"width": max(40, min(120, get_terminal_size().columns)), "color": color}


def tolerate_encodings() -> None:
    """Show a sign that the terminal's encoding lacks as its escape, where Python would raise."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def tell(line: str) -> None:
    """Print one line to stderr, where it is in no report's way."""
    from vlcheck.reports.units import plain

    typer.echo(plain(line), err=True)


def _discard_stdout() -> None:
    """Let the interpreter's last flush succeed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _kind_and_place(fault: Exception) -> str:
    last = traceback.extract_tb(fault.__traceback__)[-1]
    return f"{type(fault).__name__}: {fault} ({Path(last.filename).name}:{last.lineno})"
