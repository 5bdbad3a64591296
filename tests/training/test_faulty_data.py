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

LEFT_OUT: dict[str, tuple[Callable[[Path], Path], str]] = {
    "image cut short": (in_folder("cut.jpg", picture(form="JPEG", size=200)[:900]), "cut.jpg"),
    "empty file": (in_folder("empty.png", b""), "empty.png"),
    "text for an image": (in_folder("text.png", b"not found"), "text.png"),
    "PostScript": (in_folder("script.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "script.png"),
    "decompression bomb": (bomb, "bomb.png"),
    "pipe": (pipe, "pipe.png"),
    "folder for an image": (directory, "folder.png"),
    "missing file": (table({"image": "gone.png", "label": "red"}), "rows.jsonl:6"),
    "no answer": (table({"image": "sound.png"}), "rows.jsonl:6"),
    "null answer": (table({"image": "sound.png", "label": None}), "rows.jsonl:6"),
    "empty answer": (table({"image": "sound.png", "label": "  "}), "rows.jsonl:6"),
    "answer is a list": (table({"image": "sound.png", "label": ["red"]}), "rows.jsonl:6"),
    "no image": (table({"label": "red"}), "rows.jsonl:6"),
    "image is a number": (table({"image": 7, "label": "red"}), "rows.jsonl:6"),
    "image on the web": (table({"image": "https://example.org/a.png", "label": "red"}), "rows.jsonl:6"),
    "broken base64": (table({"image": "data:image/png;base64,@@", "label": "red"}), "rows.jsonl:6"),
    "base64 of no image": (
        table({"image": "data:image/png;base64," + base64.b64encode(b"no").decode(), "label": "red"}), "rows.jsonl:6"
    ),
    "broken JSON": (table(b'{"image": "sound.png", "label": '), "rows.jsonl:6"),
    "JSON list": (table(["sound.png", "red"]), "rows.jsonl:6"),
    "not UTF-8": (table(b'{"image": "sound.png", "label": "r\xff"}'), "rows.jsonl:6"),
    "unpaired surrogate": (table(b'{"image": "sound.png", "label": "\\ud800"}'), "rows.jsonl:6"),
    "control character": (table({"image": "sound.png", "label": "red\u0007"}), "rows.jsonl:6"),
    "no assistant": (table(messages(SHOWN)), "rows.jsonl:6"),
    "unknown role": (table(messages(SHOWN, {"role": "robot", "content": "red"})), "rows.jsonl:6"),
    "more placeholders than images": (
        table(messages({"role": "user", "content": "<image><image>?"}, SAYS, images=["sound.png"])), "rows.jsonl:6"
    ),
    "an image that no turn shows": (table(messages(SAYS, images=["sound.png"])), "rows.jsonl:6"),
    "too few cells": (csv("sound.png"), "rows.csv:7"),
    "open quote": (csv('sound.png,"red'), "rows.csv:7"),
}  # fmt: skip
"""What a run leaves out, and how it names it."""

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


@pytest.mark.parametrize("fault", LEFT_OUT)
def test_a_bad_row_is_named_and_left_out(tmp_path, fault):
    make, name = LEFT_OUT[fault]
    (tmp_path / "data").mkdir()
    told: list[str] = []
    trained = run(spec_of(make(tmp_path / "data"), tmp_path / "run"), told.append)
    assert [row for row, _ in trained.unreadable if name in row], trained.unreadable
    assert len(trained.unreadable) == 1
    assert any(name in line and "left out" in line for line in told)
    events = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [e["row"] for e in events if e.get("event") == "unreadable"] == [trained.unreadable[0][0]]


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
