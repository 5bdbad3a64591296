"""What a rehearsal notes while the script runs, and how it ends."""

from __future__ import annotations

import dataclasses
import json
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlcheck.config.foreign.scripts.source import Source
from vlcheck.integrations.places import as_place, calling_line, is_users
from vlcheck.spec import Location


@dataclass
class Stage:
    """One rehearsal, in the child process."""

    script: Path
    shown: str
    """What the report calls it."""
    scratch: Path
    """Folder that the script may write to."""
    rows: int
    options: dict[str, Any]
    replaced: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    stopping: list[str] = field(default_factory=list)
    """What would have ended the script before its first step."""
    lines: dict[str, int] = field(default_factory=dict)
    """Line of the script that made a section of the run."""
    prepared: tuple[Any, ...] = ()
    """What the script handed to accelerate."""
    source: Source | None = None
    """Of a notebook: the Python of its cells."""
    over: bool = False
    process: int = field(default_factory=os.getpid)

    @property
    def code_name(self) -> str:
        """What the script's own code objects are called; no file holds the lines of a notebook."""
        return str(self.script) if self.source is None else f"<{self.script.name}>"

    def place(self, file: str, line: int, key: str = "") -> Location:
        """A line of the script, or of the notebook's cell."""
        if self.source is None:
            return Location(file, line, 1, key)
        return dataclasses.replace(self.source, file=file).at(line, 1, key)

    def wrote(self, file: str, module: str) -> bool:
        """Whether code is the script's, or of a module of the user's own."""
        return file == self.code_name or is_users(file, module)

    def place_in(self, file: str, line: int, key: str) -> Location:
        """A line of the script as the report calls it, or of a file that it imports."""
        return self.place(self.shown, line, key) if file == self.code_name else as_place(file, line, key)

    def replace(self, what: str) -> None:
        """Note that something was answered in another's place."""
        if what not in self.replaced:
            self.replaced.append(what)

    def refuse(self, what: str) -> None:
        """Note that something was not allowed."""
        if what not in self.refused and len(self.refused) < 100:
            self.refused.append(what)

    def stops(self, what: str) -> None:
        """Note, with the script's line, what ends the run where this is no rehearsal."""
        self.stopping.append(f"{self.place(self.script.name, self.line() or 1)}: {what}")

    def mark(self, section: str) -> None:
        """Note which line of the script is making a section of the run."""
        if (line := self.line()) is not None:
            self.lines[section] = line

    def line(self) -> int | None:
        """The line that the script is at; None outside of it."""
        found = calling_line(lambda file, module: file == self.code_name)
        return found[1] if found is not None else None

    def told(self, error: BaseException) -> str:
        """How a script failed, in a line."""
        kind = type(error).__name__
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame.lineno for frame in frames if frame.filename == self.code_name]
        place = self.place(self.script.name, own[-1] or 1 if own else self.line() or 1)
        if isinstance(error, ModuleNotFoundError):
            return f"{place}: the script needs {error.name}, which is not installed here"
        return f"{place}: {kind}: {' '.join(str(error).split())[:600]}"

    def sources(self) -> dict[str, Location]:
        """Places of the run's sections, for findings."""
        places = {section: self.place(self.shown, line, section) for section, line in self.lines.items()}
        return {"": Location(self.shown), **places}

    def end(self, judged: Callable[[], dict[str, Any]]) -> None:
        """Write what was found, and end the process before the script can go on; a fork of it ends without a word."""
        if os.getpid() == self.process and not self.over:
            self.over = True
            self.write(judged())
        os._exit(0)

    def write(self, result: dict[str, Any]) -> None:
        """Leave the result where the parent reads it."""
        told = {**result, "replaced": self.replaced, "refused": self.refused}
        (self.scratch / "result.json").write_text(json.dumps(told), "utf-8")
