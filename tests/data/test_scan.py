"""The pass itself: bounded, interruptible, and of one mind whatever bytes it meets."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.faults import write_sound
from tests.photos import encoded, photo, write_json_lines, write_photo
from vlcheck.data.read import Row, RowProblem, read_rows
from vlcheck.data.scan import scan_data
from vlcheck.finding import NotApplicable
from vlcheck.spec import Data


def test_order_is_that_of_the_data(tmp_path):
    """Threads change neither the order nor the names."""
    write_sound(tmp_path)
    scan = scan_data(Data(path=str(tmp_path)))
    assert [scan.title(n) for n in range(len(scan.pictures))] == [
        f"train.jsonl:{n + 1} (train/{n}.jpg)" for n in range(44)
    ]


def test_progress_is_told(tmp_path):
    """How many images, of how many, and how many a second."""
    write_sound(tmp_path)
    told: list[str] = []
    rows = [{"image": "train/0.jpg", "label": "pug"}] * 1500
    write_json_lines(tmp_path / "train.jsonl", rows)

    scan_data(Data(path=str(tmp_path)), progress=told.append)

    assert told
    assert all(step.startswith("Scanning images: ") and " of 1,500 " in step and "a second" in step for step in told)


def test_no_data():
    """Nothing to scan is said, not passed over."""
    with pytest.raises(NotApplicable):
        scan_data(Data())


def test_warnings_are_as_they_were(tmp_path):
    """Threads leave no filter of theirs behind."""
    import warnings

    write_sound(tmp_path)
    before = list(warnings.filters)
    scan_data(Data(path=str(tmp_path)))
    assert warnings.filters == before


LOOP = """
import sys
from vlcheck.data.scan import scan_data
from vlcheck.spec import Data
print("started", flush=True)
try:
    scan_data(Data(path=sys.argv[1]))
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_interrupt_ends_the_scan(tmp_path):
    """Ctrl-C stops it within the time of the images under way."""
    write_photo(tmp_path / "1.jpg", 1, (1500, 1000))
    file = write_json_lines(tmp_path / "train.jsonl", [{"image": "1.jpg", "label": "pug"}] * 20_000)
    process = subprocess.Popen([sys.executable, "-c", LOOP, str(file)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(1.0)
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert time.monotonic() - sent < 5
    process.stdout.close()


CONTENT = {form: encoded(photo(1), form) for form in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP")}


@settings(max_examples=200)
@given(
    st.sampled_from(sorted(CONTENT)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    st.floats(0, 1),
)
def test_damaged_image_is_read_or_named(tmp_path_factory, form, damage, kept):
    """Whatever bytes are changed and wherever the file is cut: an image, or a reason beside its row's name."""
    content = bytearray(CONTENT[form])
    for place, value in damage:
        content[int(place * len(content))] = value
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "1.img").write_bytes(content[: int(kept * len(content))])
    file = write_json_lines(folder / "train.jsonl", [{"image": "1.img", "label": "pug"}])

    scan = scan_data(Data(path=str(file)))

    assert len(scan.pictures) + scan.unreadable.count == 1
    assert all(said.startswith("train.jsonl:1 (1.img): ") for said in scan.unreadable.first)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
parts = st.fixed_dictionaries({}, optional={"type": st.sampled_from(["text", "image", "x"]) | json_values,
                                            "text": json_values, "image": json_values})  # fmt: skip
messages = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", "system"]) | json_values,
        "content": st.text() | st.lists(parts, max_size=3) | json_values,
        "thinking": json_values,
    },
)
any_row = st.fixed_dictionaries(
    {},
    optional={
        "image": json_values, "label": json_values, "images": json_values, "split": json_values,
        "messages": st.lists(messages, max_size=3) | json_values,
    },
)  # fmt: skip


@given(st.lists(any_row, max_size=4))
def test_any_json_is_rows_or_problems(tmp_path_factory, rows):
    """Every object is a row or a problem with its line, never an exception."""
    file = write_json_lines(tmp_path_factory.mktemp("any") / "train.jsonl", rows)
    read = list(read_rows(Data(path=str(file.parent)), "train"))
    assert [row.name for row in read] == [f"train.jsonl:{n + 1}" for n in range(len(rows))]


@given(st.binary(max_size=300), st.sampled_from([".jsonl", ".csv", ".tsv"]))
def test_any_bytes_are_rows_or_problems(tmp_path_factory, content, suffix):
    """Whatever a file holds, what comes out is named by its place."""
    file: Path = tmp_path_factory.mktemp("bytes") / f"train{suffix}"
    file.write_bytes(content)
    for row in read_rows(Data(path=str(file.parent)), "train"):
        assert isinstance(row, Row | RowProblem)
        assert row.name.startswith(f"train{suffix}:")
        row.name.encode()


@pytest.mark.parametrize("known", [True, False])
def test_of_very_many_images_a_sample_is_decoded(tmp_path, monkeypatch, known):
    """Every row is read; what is decoded is spread over all of them, and the rest is counted."""
    from vlcheck.data import scan as module

    for number in range(24):
        place = tmp_path / "train" / ("red", "blue")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8 + number, 8)).save(place / f"{number:02}.png")
    monkeypatch.setattr(module, "DECODED", 6)
    monkeypatch.setattr(module, "STRIDE", 9)
    if not known:
        monkeypatch.setattr(module, "count_pictures", lambda data: None)
    found = scan_data(Data(path=str(tmp_path)))

    assert len(found.rows) == 24
    assert found.looked_at + found.passed_over == 24
    assert 5 <= found.looked_at <= 8
    decoded = sorted(found.rows.names[row] for row in found.pictures.row)
    assert {name.split("/")[1] for name in decoded} == {"red", "blue"}


@pytest.mark.parametrize(("most", "told"), [(None, 60), (35, 35)])
def test_images_of_a_long_file_are_counted_by_its_lines(tmp_path, monkeypatch, most, told):
    """The first rows one by one, the others as many as there are lines; a row that is passed over counts as a line."""
    from vlcheck.data import read

    lines = [{"image": "a.png", "label": "red", "split": ("train", "test")[n % 3 == 2]} for n in range(90)]
    data = Data(path=str(write_json_lines(tmp_path / "rows.jsonl", lines)), train_samples=most)
    assert read.count_pictures(data) == told
    monkeypatch.setattr(read, "COUNTED", 20)
    assert abs(read.count_pictures(data) - told) <= 3


def test_more_images_than_were_estimated_are_a_sample_all_the_same(monkeypatch):
    from vlcheck.data import scan as module

    monkeypatch.setattr(module, "DECODED", 100)
    assert sum(module.is_decoded(number, 10) for number in range(100_000)) < 100 * 10


def test_a_sample_keeps_step_with_no_pattern():
    """Of labels in turn, each is decoded as often as the others; and never more than are allowed, but for rounding."""
    from vlcheck.data.scan import DECODED, is_decoded

    for period in (2, 3, 5, 10, 37):
        seen = [number for number in range(200_000) if is_decoded(number, 200_000)]
        counts = [sum(number % period == rest for number in seen) for rest in range(period)]
        assert abs(len(seen) - DECODED) <= 3
        assert max(counts) - min(counts) <= 0.02 * DECODED
    assert all(is_decoded(number, DECODED) for number in range(DECODED))
