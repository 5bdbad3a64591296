"""Thirty kinds of bad data: a row is named and left out, or the run ends with one clear line."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.training.runs import parts, run, small
from vlcheck.cli.quiet import refusals
from vlcheck.spec import ConfigError, Data

COLOURS = ("red", "green", "blue")
SOUND = 5
"""Rows beside the bad ones: enough that one bad row is not too large a share."""


def picture(colour: str = "red", form: str = "PNG", size: int = 64) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(file, form)
    return file.getvalue()


def classes(folder: Path) -> Path:
    """Sound images in class folders."""
    for number in range(SOUND):
        place = folder / "train" / COLOURS[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.png").write_bytes(picture(COLOURS[number % 3]))
    return folder


def in_folder(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        classes(folder)
        (folder / "train" / "red" / name).write_bytes(content)
        return folder

    return make


def table(*lines: Any, count: int = SOUND) -> Callable[[Path], Path]:
    """Sound rows of a JSONL file, and these."""

    def make(folder: Path) -> Path:
        (folder / "sound.png").write_bytes(picture())
        sound = [json.dumps({"image": "sound.png", "label": COLOURS[n % 3]}) for n in range(count)]
        file = folder / "rows.jsonl"
        raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        file.write_bytes(b"\n".join([*(line.encode() for line in sound), *raw]) + b"\n")
        return file

    return make


def csv(text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "sound.png").write_bytes(picture())
        rows = "".join(f"sound.png,{COLOURS[n % 3]}\n" for n in range(SOUND))
        (folder / "rows.csv").write_text(f"image,label\n{rows}{text}\n")
        return folder / "rows.csv"

    return make


def messages(*turns: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": list(turns), **more}


def directory(folder: Path) -> Path:
    classes(folder)
    (folder / "train" / "red" / "folder.png").mkdir()
    return folder


def bomb(folder: Path) -> Path:
    classes(folder)
    Image.new("1", (20_000, 20_000)).save(folder / "train" / "red" / "bomb.png")
    return folder


def pipe(folder: Path) -> Path:
    import os

    classes(folder)
    os.mkfifo(folder / "train" / "red" / "pipe.png")
    return folder


def single(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def broken_only(folder: Path) -> Path:
    place = folder / "train" / "red"
    place.mkdir(parents=True)
    for number in range(4):
        (place / f"{number}.png").write_bytes(b"")
    return folder


SAYS = {"role": "assistant", "content": "red"}
SHOWN = {"role": "user", "content": [{"type": "image", "path": "sound.png"}, {"type": "text", "text": "What?"}]}

IN_FOLDER: dict[str, tuple[Callable[[Path], Path], str]] = {
    "image cut short": (in_folder("cut.jpg", picture(form="JPEG", size=200)[:900]), "cut.jpg"),
    "empty file": (in_folder("empty.png", b""), "empty.png"),
    "text for an image": (in_folder("text.png", b"not found"), "text.png"),
    "PostScript": (in_folder("script.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "script.png"),
    "decompression bomb": (bomb, "bomb.png"),
    "pipe": (pipe, "pipe.png"),
    "folder for an image": (directory, "folder.png"),
}
"""Files that a run leaves out, and how it names them."""

IN_TABLE: dict[str, Any] = {
    "missing file": {"image": "gone.png", "label": "red"},
    "no answer": {"image": "sound.png"},
    "null answer": {"image": "sound.png", "label": None},
    "empty answer": {"image": "sound.png", "label": "  "},
    "answer is a list": {"image": "sound.png", "label": ["red"]},
    "no image": {"label": "red"},
    "image is a number": {"image": 7, "label": "red"},
    "image on the web": {"image": "https://example.org/a.png", "label": "red"},
    "broken base64": {"image": "data:image/png;base64,@@", "label": "red"},
    "base64 of no image": {"image": "data:image/png;base64," + base64.b64encode(b"no").decode(), "label": "red"},
    "broken JSON": b'{"image": "sound.png", "label": ',
    "JSON list": ["sound.png", "red"],
    "not UTF-8": b'{"image": "sound.png", "label": "r\xff"}',
    "unpaired surrogate": b'{"image": "sound.png", "label": "\\ud800"}',
    "control character": {"image": "sound.png", "label": "red\u0007"},
    "no assistant": messages(SHOWN),
    "unknown role": messages(SHOWN, {"role": "robot", "content": "red"}),
    "more placeholders than images": messages(
        {"role": "user", "content": "<image><image>?"}, SAYS, images=["sound.png"]
    ),
    "an image that no turn shows": messages(SAYS, images=["sound.png"]),
}
"""Lines of a table that a run leaves out; it names them by their number."""

ENDS: dict[str, tuple[Callable[[Path], Path], dict[str, Any], str]] = {
    "no such path": (lambda folder: folder / "nowhere", {}, "does not exist"),
    "empty file of rows": (table(count=0), {}, "holds no usable row"),
    "empty folder": (lambda folder: folder, {}, "holds no usable row"),
    "unknown split": (classes, {"train_split": "learn"}, 'no split "learn"'),
    "a file of unknown kind": (single("rows.xlsx", b"PK"), {}, "rows.xlsx"),
    "parquet cut short": (single("a.parquet", b"PAR1"), {}, "a.parquet"),
    "every image broken": (broken_only, {}, "4 of 4 rows cannot be read"),
    "more than the run allows": (
        table({"label": "red"}, {"label": "red"}), {"max_unreadable": 0.1}, "2 of 7 rows cannot be read"
    ),
    "a placeholder in an answer": (table({"image": "sound.png", "label": "<|image|>"}), {}, "rows.jsonl:6"),
    "too long": (table({"image": "sound.png", "label": "red " * 200}), {"max_length": 150}, "rows.jsonl:6"),
}  # fmt: skip
"""What ends a run, with what, and the words of its one line."""


def spec_of(path: Path, output: Path, **data: Any):
    """One step over every row."""
    settings = {"max_unreadable": 0.5, "instruction": "Which colour?", **data}
    return replace(
        small(output, max_steps=-1, num_train_epochs=1, per_device_train_batch_size=8, save_strategy="no"),
        data=Data(path=str(path), max_soft_tokens=70, **settings),
    )


def left_out(path: Path, output: Path) -> dict[str, str]:
    """Train on data most of whose rows are bad; the rows that were left out, each of them said and recorded once."""
    told: list[str] = []
    trained = run(spec_of(path, output, max_unreadable=0.9), told.append)
    events = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    names = [name for name, _ in trained.unreadable]
    assert sorted(e["row"] for e in events if e.get("event") == "unreadable") == sorted(names)
    assert all(any(name in line and "left out" in line for line in told) for name in names)
    return dict(trained.unreadable)


def test_bad_files_are_named_and_left_out(tmp_path):
    (tmp_path / "data").mkdir()
    for make, _ in IN_FOLDER.values():
        make(tmp_path / "data")
    found = left_out(tmp_path / "data", tmp_path / "run")
    assert len(found) == len(IN_FOLDER)
    for fault, (_, name) in IN_FOLDER.items():
        assert [row for row in found if name in row], fault


def test_bad_lines_are_named_and_left_out(tmp_path):
    """A line that is no JSON ends at its end."""
    (tmp_path / "data").mkdir()
    found = left_out(table(*IN_TABLE.values())(tmp_path / "data"), tmp_path / "run")
    assert len(found) == len(IN_TABLE)
    for number, fault in enumerate(IN_TABLE, SOUND + 1):
        assert f"rows.jsonl:{number}" in found, fault


@pytest.mark.parametrize("line", ["sound.png", 'sound.png,"red'])
def test_a_bad_line_of_cells_is_named_and_left_out(tmp_path, line):
    """Too few cells; an open quote, which may hold all that follows."""
    (tmp_path / "data").mkdir()
    assert list(left_out(csv(line)(tmp_path / "data"), tmp_path / "run")) == ["rows.csv:7"]


@pytest.mark.parametrize("fault", ENDS)
def test_a_fault_of_the_whole_ends_the_run_in_one_line(tmp_path, fault):
    make, data, words = ENDS[fault]
    (tmp_path / "data").mkdir()
    parts()
    with pytest.raises((ConfigError, *refusals())) as raised:
        run(spec_of(make(tmp_path / "data"), tmp_path / "run", **data))
    assert words in " ".join(str(raised.value).split())


def test_a_step_of_bad_rows_only_is_passed_over(tmp_path):
    """The run goes on with the next one, as long as the share allows it."""
    folder = in_folder("cut.png", b"")(tmp_path / "data")
    spec = spec_of(folder, tmp_path / "run")
    spec = replace(spec, training=replace(spec.training, per_device_train_batch_size=1, gradient_accumulation_steps=1))
    told: list[str] = []
    assert run(spec, told.append).steps == SOUND + 1
    assert sum("every row was left out" in line for line in told) == 1
