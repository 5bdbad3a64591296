"""Follow a command through the product's files, as `docs/architecture.md` tells it.

`python -m tests.ways` writes the way of every job into the document anew.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

DOCUMENT = Path(__file__).parents[1] / "docs" / "architecture.md"
PRODUCT = Path(__file__).parents[1] / "vlcheck"
SMALL = (
    ("max_steps: 60", "max_steps: 2"),
    ("per_device_train_batch_size: 4", "per_device_train_batch_size: 1"),
    ("generated: shapes ", "generated: shapes\n  train_samples: 6\n  eval_samples: 3  "),
)
JOBS = {
    "train": ("train", "tiny.yaml", "--offline"),
    "evaluate": ("evaluate", "tiny.yaml", "--adapter", "tiny-shapes/adapter", "--offline"),
    "merge": (
        "merge",
        "tiny.yaml",
        "--adapter",
        "tiny-shapes/adapter",
        "--base",
        "base",
        "--out",
        "merged",
        "--offline",
    ),
    "check-adapter": ("check-adapter", "tiny-shapes/adapter", "tiny.yaml", "--offline"),
    "audit": ("audit", "tiny.yaml", "--offline"),
    "fit": ("fit", "tiny.yaml", "--gpu", "t4", "--offline"),
}
"""In an order in which each finds what it needs: the run that is trained leaves the adapter."""
_none: Any = getattr
"""Called as `getattr(frame, "call", None)` for each call below a leaf: None, without a frame of Python's own."""


class Trail:
    """Notes the product's files in which a function is entered, except in leaves and below them.

    Use it as a context; `files` holds paths in `vlcheck/`, in the order of their first entry.
    """

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self._leaves = _leaves()
        self._thread = threading.local()
        self._now: FrameType | None = None
        self._places: dict[int, tuple[CodeType, str]] = {}
        """By identity of the code, which its entry keeps: a code's hash is computed anew whenever it is asked for."""

    def __enter__(self) -> Trail:
        threading.settrace(self._called)
        sys.settrace(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]

    def _called(self, frame: FrameType, event: str, _: Any) -> Any:
        """Told of every call; whoever returns nothing is told of no line, and of no return."""
        code = frame.f_code
        known = self._places.get(id(code))
        if known is None:
            ours = code.co_filename.startswith(f"{PRODUCT}{os.sep}")
            known = code, Path(code.co_filename).relative_to(PRODUCT).as_posix() if ours else ""
            self._places[id(code)] = known
        place = known[1]
        if not place:
            if not hasattr(self._thread, "leaf"):
                self._thread.leaf = self._now  # a thread that was started below a leaf stays below it
            return None
        if getattr(self._thread, "leaf", self._now) is not None:
            return None
        if self._is_leaf(code, place):
            self._thread.leaf = self._now = frame
            frame.f_trace_lines = False
            sys.settrace(_none)
            return self._left
        self.files.setdefault(place, code.co_qualname)
        return None

    def _left(self, frame: FrameType, event: str, _: Any) -> Any:
        """Told when a leaf returns, or yields: what is called afterwards is not below it."""
        if event == "return" and frame is self._thread.leaf:
            self._thread.leaf = self._now = None
            sys.settrace(self._called)
        return self._left

    def _is_leaf(self, code: CodeType, place: str) -> bool:
        return code.co_name == "<module>" or place.startswith("reports/") or code in self._leaves


def _leaves() -> frozenset[CodeType]:
    """The code of every rule's check and of every collector."""
    from vlcheck.config.load import load
    from vlcheck.config.project import read_project
    from vlcheck.evidence.collectors import COLLECTORS
    from vlcheck.rules import every_rule

    readers = (load, read_project)
    return frozenset(f.__code__ for f in (*readers, *COLLECTORS.values(), *(rule.check for rule in every_rule())))


def ways(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Run every job on the recipe `tiny`, cut short, in an empty folder: its name, and the files on its way.

    Its vocabulary is a small one, which changes no way and takes a third of the time.
    """
    from tests.tiny import small_vocabulary

    text = (files("vlcheck") / "recipes" / "tiny.yaml").read_text(encoding="utf-8")
    for old, new in (*SMALL, ("vlcheck/tiny-gemma4 ", f"{small_vocabulary()} ")):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "tiny.yaml").write_text(text, encoding="utf-8")
    _write_base(folder / "base")
    import_module("bitsandbytes")  # before anybody follows: code that runs because a module is imported does not count
    import_module("vlcheck.evidence.collectors")
    import_module("peft")
    for job, arguments in JOBS.items():
        yield job, _way(folder, arguments)


def _write_base(folder: Path) -> None:
    """The recipe's base on a disk, where a merge needs it, with a small vocabulary."""
    import json

    from tests.merges import with_processor, write_base
    from tests.tiny import small_vocabulary

    with_processor(write_base(folder, json.loads((small_vocabulary() / "config.json").read_text())))


def _way(folder: Path, arguments: tuple[str, ...]) -> list[str]:
    from vlcheck.cli.app import main

    given, said, code = sys.argv, io.StringIO(), None
    with contextlib.chdir(folder), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), Trail() as trail:
        try:
            sys.argv = ["vlcheck", *arguments]
            main()
        except SystemExit as left:
            code = left.code
        finally:
            sys.argv = given
    assert code == 0, (arguments, code, said.getvalue())
    return list(trail.files)


def told(document: str) -> dict[str, list[str]]:
    """The files that the document lists under each job's heading."""
    sections = re.split(r"^### `vlcheck ([\w-]+)`.*$", document, flags=re.M)
    return {
        job: re.findall(r"^\d+\. `([\w/]+\.py)`", re.split(r"^#", text, maxsplit=1, flags=re.M)[0], flags=re.M)
        for job, text in zip(sections[1::2], sections[2::2], strict=True)
    }


def retold(document: str, job: str, way: list[str]) -> str:
    """The document with the list under a job's heading written anew."""
    lines = "".join(f"{n}. `{file}`: {_title(file)}\n" for n, file in enumerate(way, 1))
    section = re.compile(rf"(^### `vlcheck {job}`\n\n(?:(?!\d+\. |#)[^\n]+\n)*)[^#]*", re.M)
    return section.sub(lambda found: f"{found[1]}\n{lines}\n", document, count=1).rstrip() + "\n"


def _title(file: str) -> str:
    title = (ast.get_docstring(ast.parse((PRODUCT / file).read_text(encoding="utf-8"))) or "").partition("\n")[0]
    return title.rstrip(".")


if __name__ == "__main__":
    text = DOCUMENT.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as place:
        for name, files_on_it in ways(Path(place)):
            text = retold(text, name, files_on_it)
            print(f"{name}: {len(files_on_it)} files")
    DOCUMENT.write_text(text, encoding="utf-8")
