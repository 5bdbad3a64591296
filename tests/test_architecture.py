"""The floor plan is what `docs/architecture.md` says: rooms, layers, the way of each job, who may print and exit."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import tomllib
from collections.abc import Iterator

import pytest

from tests.ways import DOCUMENT, JOBS, PRODUCT, retold, told, ways

SOURCES = {path.relative_to(PRODUCT).as_posix(): path.read_text("utf-8") for path in sorted(PRODUCT.rglob("*.py"))}
TEXT = DOCUMENT.read_text(encoding="utf-8")
LAYERS = next(
    contract["layers"]
    for contract in tomllib.loads((PRODUCT.parent / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    if contract["type"] == "layers"
)
MAY_BE_LONGER = {"training/loop.py": "one straight loop from the first row to the adapter, read from top to bottom"}
PRINTS = {"print"}
ENDS = {"exit", "quit", "sys.exit", "os._exit", "typer.Exit", "SystemExit"}
MAY_END = {
    "training/guard.py": "a second signal ends a process whose main thread is busy in a kernel",
    "processing/time_limit.py": "a child process that only tries a template ends without its parent's clean-up",
    "integrations/rehearsal/stage.py": "a rehearsed script must not go on behind its first step, whatever it catches",
    "training/workers.py": "a process that collates ends with the run that it collates for",
}


# --------------------------------------------------------------------------- the way of each job


@pytest.fixture(scope="module")
def passed(tmp_path_factory) -> dict[str, list[str]]:
    """The files that a real run of each job passes through, image processors as they are outside of tests."""
    with pytest.MonkeyPatch.context() as patch:
        if "transformers" in sys.modules:
            from transformers.image_processing_utils import BaseImageProcessor

            patch.setattr(BaseImageProcessor, "__call__", inspect.unwrap(BaseImageProcessor.__call__))
        return dict(ways(tmp_path_factory.mktemp("ways")))


@pytest.mark.parametrize("job", JOBS)
def test_the_document_tells_the_way(passed, job):
    """Every file on the way is listed, and nothing else is."""
    listed = told(TEXT)[job]

    assert len(listed) == len(set(listed))
    assert sorted(passed[job]) == sorted(listed), "python -m tests.ways writes the list anew"


def test_an_audit_passes_ten_files_at_most(passed):
    """The spine that a newcomer reads."""
    assert {"cli/app.py", "engine.py", "evidence/resolve.py"} <= set(passed["audit"])
    assert len(passed["audit"]) <= 10


def test_a_list_that_is_wrong_would_be_seen(passed):
    """The comparison has power: a missing file and a file too many both show."""
    fewer, more = passed["audit"][1:], [*passed["audit"], "model/hub.py"]

    assert told(retold(TEXT, "audit", fewer))["audit"] == fewer != passed["audit"]
    assert told(retold(TEXT, "audit", more))["audit"] == more
    assert told(retold(TEXT, "audit", fewer))["train"] == told(TEXT)["train"]


# --------------------------------------------------------------------------- rooms and layers


def test_rooms_and_files_are_few_and_in_the_document():
    """At most 16 folders and 9 files at the top, each told."""
    rooms = {path.name for path in PRODUCT.iterdir() if path.is_dir() and path.name != "__pycache__"}
    top = {path.name for path in PRODUCT.glob("*.py")}

    assert len(rooms) <= 16
    assert len(top) <= 9
    assert rooms == set(re.findall(r"^\| `(\w+)/` \|", TEXT, flags=re.M))
    assert {name for name in top if f"`{name}`" not in TEXT} == set()


def test_layers_are_few_and_in_the_document():
    """The drawing is import-linter's list."""
    assert len(LAYERS) <= 16
    assert "```\n" + "\n".join(LAYERS) + "\n```" in TEXT


def test_no_file_is_longer_than_300_lines():
    """What is longer holds two nouns."""
    longer = {place: lines for place, source in SOURCES.items() if (lines := len(source.splitlines())) > 300}

    assert longer.keys() <= MAY_BE_LONGER.keys(), longer


# --------------------------------------------------------------------------- who prints and exits


def used(source: str, names: set[str]) -> Iterator[str]:
    """The names that a source uses, as calls or as values, with their lines."""
    last = {name.rpartition(".")[2] for name in names}
    for node in ast.walk(ast.parse(source)):
        named = getattr(node, "id", getattr(node, "attr", None)) in last  # unparsing each would take seconds
        if named and (name := ast.unparse(node)) in names:
            yield f"{node.lineno}: {name}"


def test_only_the_command_line_prints_and_exits():
    """A library that prints or exits cannot be used from Python."""
    caught = {
        place: found
        for place, source in SOURCES.items()
        if not place.startswith("cli/") and (found := set(used(source, PRINTS | ENDS)))
    }
    ended = {place: {entry.partition(": ")[2] for entry in found} for place, found in caught.items()}

    assert ended == {place: {"os._exit"} for place in MAY_END}, caught


@pytest.mark.parametrize(
    "source", ["print(1)", "def f(say=print): ...", "sys.exit(1)", "raise SystemExit", "raise typer.Exit(2)", "exit()"]
)
def test_printing_and_exiting_would_be_seen(source):
    """Called or handed on, each is found."""
    assert list(used(source, PRINTS | ENDS))
    assert not list(used("console.print(1); stack.exit()", PRINTS | ENDS))
