"""Rows that are written in another form than they are meant: what is read, and what the audit says of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.photos import encoded, photo, write_photo
from vlcheck.data.read import Row, RowProblem, read_rows
from vlcheck.data.scan import scan_data
from vlcheck.finding import Finding
from vlcheck.rules.choosing import find
from vlcheck.spec import Data, Lora, ModelRef, RunSpec, Training

SAID = [{"role": "user", "content": "Name it."}, {"role": "assistant", "content": "a dog"}]
PLACED = [{"role": "user", "content": "<image>\nName it."}, SAID[1]]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "Name it."}]}, SAID[1]]
LLAVA = [{"from": "human", "value": "<image>\nName it."}, {"from": "gpt", "value": "a dog"}]


READ_BY = ((None, True), ("trl", True), ("vlcheck", False), ("llamafactory", False))
"""Whether the reader of a framework takes a path for a list, and `conversations`, otherwise than they are meant."""


def written(folder: Path, rows: Sequence[dict[str, Any]], name: str = "train.jsonl") -> Data:
    """Data of these rows, one photo beside them."""
    write_photo(folder / "0.jpg", 0)
    text = json.dumps(rows) if name.endswith(".json") else "\n".join(map(json.dumps, rows))
    (folder / name).write_text(text, encoding="utf-8")
    return Data(path=str(folder / name))


def found(code: str, data: Data, framework: Any = None) -> list[Finding]:
    """What one rule says of data."""
    spec = RunSpec(
        model=ModelRef(id="none"), lora=Lora(), data=data, training=Training(framework=framework)
    )  # fmt: skip
    said = list(find(code).check(spec=spec, scan=scan_data(data)))
    return [entry for entry in said if isinstance(entry, Finding)]


def test_a_json_list_is_read_element_by_element(tmp_path):
    """LLaVA's own file: one list, `conversations` of from and value, an `image` beside them."""
    data = written(tmp_path, [{"image": "0.jpg", "conversations": LLAVA}] * 2, "llava.json")

    first, second = read_rows(data, "train")

    assert isinstance(first, Row)
    assert isinstance(second, Row)
    assert (first.name, second.name) == ("llava.json:1", "llava.json:2")
    assert first.answer == "a dog"
    assert first.prompt == "Name it."
    assert len(first.pictures) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "holds 1; allowed: an object"),
        ('[{"image": ', "not read as JSON"),
        ("[{}", "ends without a closing bracket"),
        ("[{} {}]", "ends without a closing bracket"),
        ('[{"conversations": [{"from": "cat", "value": "miau"}]}]', 'from is "cat"; allowed: human'),
        ('[{"conversations": "hello"}]', 'conversations is "hello"; allowed: a list'),
    ],
)
def test_a_broken_list_is_named(tmp_path, text, said):
    """Whatever is wrong with a list, a row says so; none ends in a traceback."""
    (tmp_path / "rows.json").write_text(text, encoding="utf-8")

    rows = list(read_rows(Data(path=str(tmp_path / "rows.json")), "train"))

    assert any(isinstance(row, RowProblem) and said in row.message for row in rows), [str(row) for row in rows]


def test_json_lines_may_be_called_json(tmp_path):
    """A `.json` file of one object a line is read as such."""
    (tmp_path / "rows.json").write_text("\n".join([json.dumps({"messages": SAID})] * 2), encoding="utf-8")

    assert len(list(read_rows(Data(path=str(tmp_path / "rows.json")), "train"))) == 2


def test_rows_without_any_image_are_an_error(tmp_path):
    """Images are promised, none is there; one row with an image is a mixture, and none promised is a text run."""
    none = written(tmp_path, [{"messages": SAID}] * 3)
    (finding,) = found("VLC521", none)
    assert "0 of 3 rows hold an image" in finding.message
    assert finding.fix == "data: {modalities: [text]}"
    assert not found("VLC521", written(tmp_path, [{"messages": SAID}, {"messages": PLACED, "images": ["0.jpg"]}]))


@pytest.mark.parametrize("cell", ["0.jpg", ["0.jpg"], [{"bytes": None, "path": "0.jpg"}]])
@pytest.mark.parametrize("column", ["imgs", "image_path"])
def test_an_image_column_that_is_not_read_is_named(tmp_path, column, cell):
    """Whatever it is called and however it holds them; a column of texts is none."""
    (finding,) = found("VLC522", written(tmp_path, [{"messages": SAID, column: cell, "note": "fine"}]))
    assert repr(column) in finding.message
    beside = [{"messages": PLACED, "images": ["0.jpg"], column: cell}]
    assert not found("VLC522", written(tmp_path, beside))


@pytest.mark.parametrize(("framework", "speaks"), READ_BY)
def test_a_path_where_a_list_is_meant(tmp_path, framework, speaks):
    """Judged by the named framework's reader: TRL takes the letters for images."""
    data = written(tmp_path, [{"messages": PLACED, "images": "0.jpg"}])
    assert [("TRL" in f.message.upper()) for f in found("VLC523", data, framework)] == [True] * speaks
    assert not found("VLC523", written(tmp_path, [{"messages": PLACED, "images": ["0.jpg"]}]), framework)


@pytest.mark.parametrize(("framework", "speaks"), READ_BY)
def test_llavas_own_format(tmp_path, framework, speaks):
    """Read by vlcheck's own loop and LLaMA-Factory, not by TRL."""
    data = written(tmp_path, [{"image": "0.jpg", "conversations": LLAVA}], "llava.json")
    assert len(found("VLC524", data, framework)) == speaks


@pytest.mark.parametrize(
    ("framework", "messages", "speaks"),
    [
        ("llamafactory", SAID, True),
        ("llamafactory", PLACED, False),
        ("trl", SAID, False),
        ("trl", PARTS, True),
    ],
)
def test_a_missing_placeholder(tmp_path, framework, messages, speaks):
    """LLaMA-Factory wants one for each image; TRL puts images before a text, not into a list of parts."""
    data = written(tmp_path, [{"messages": messages, "images": ["0.jpg"]}])
    assert len(found("VLC525", data, framework)) == speaks


PICTURE = {"bytes": encoded(photo(0)), "path": None}
"""An image as a parquet or arrow row holds it."""
BYTES_AND_PATH = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}


def columnar(folder: Path, columns: dict[str, Any], rows: Sequence[dict[str, Any]]) -> Data:
    """Data of these rows in a parquet file, as `datasets` writes it.

    Args:
        columns: types of the columns beside `messages`.
    """
    said = datasets.List({"role": datasets.Value("string"), "content": datasets.Value("string")})
    features = datasets.Features({"messages": said, **columns})
    datasets.Dataset.from_list(list(rows), features=features).to_parquet(str(folder / "train.parquet"))
    return Data(path=str(folder / "train.parquet"))


@pytest.mark.parametrize(
    ("empty", "code", "said"),
    [
        ({"bytes": b"", "path": None}, "VLC501", "no bytes"),
        ({"bytes": None, "path": None}, "VLC519", "the image is null"),
        (None, "VLC519", "the image is null"),
    ],
)
@pytest.mark.parametrize("kind", [datasets.Image(), BYTES_AND_PATH])
def test_an_empty_image_of_a_columnar_row(tmp_path, kind, empty, code, said):
    """No bytes, no path, or null in the list of images: the row is named, whatever the column's type."""
    rows = [{"messages": PLACED, "images": [image]} for image in (PICTURE, empty)]
    (finding,) = found(code, columnar(tmp_path, {"images": datasets.List(kind)}, rows))
    assert said in finding.message
    assert "train[1]" in finding.message


@pytest.mark.parametrize("images", [[], None])
def test_a_placeholder_without_an_image(tmp_path, images):
    """A text asks for an image and its row lists none: the row is named; a text that asks for none is a mixture."""
    columns = {"images": datasets.List(datasets.Image())}
    asking = columnar(tmp_path, columns, [{"messages": PLACED, "images": image} for image in ([PICTURE], images)])
    (finding,) = found("VLC519", asking)
    assert "train[1]: more image placeholders than images" in finding.message
    silent = columnar(tmp_path, columns, [{"messages": SAID, "images": image} for image in ([PICTURE], images)])
    assert not found("VLC519", silent)


@pytest.mark.parametrize(("framework", "speaks"), READ_BY)
def test_a_null_image_beside_others(tmp_path, framework, speaks):
    """Judged by the named framework's reader: TRL wraps null into a list of one image."""
    rows = [{"messages": SAID, "image": image} for image in (PICTURE, None)]
    mixed = columnar(tmp_path, {"image": datasets.Image()}, rows)
    assert ["image is null in 1 rows" in f.message for f in found("VLC523", mixed, framework)] == [True] * speaks
    assert not found("VLC523", columnar(tmp_path, {"image": datasets.Image()}, rows[:1]), framework)


def test_columnar_rows_are_judged_as_lines_are(tmp_path):
    """A path for a list, and images that no placeholder asks for, in parquet."""
    text = columnar(tmp_path, {"images": datasets.Value("string")}, [{"messages": PLACED, "images": "0.jpg"}])
    assert found("VLC523", text, "trl")
    row = {"messages": SAID, "images": [PICTURE]}
    assert found("VLC525", columnar(tmp_path, {"images": datasets.List(datasets.Image())}, [row]), "llamafactory")


def test_trl_does_as_its_row_says(tmp_path):
    """The facts of the table, held against the installed package."""
    data_utils = pytest.importorskip("trl.data_utils")
    filled = data_utils.prepare_multimodal_messages(SAID, images="ab.jpg")
    assert [part.get("image") for part in filled[0]["content"] if part["type"] == "image"] == list("ab.jpg")
    assert len(data_utils.prepare_multimodal_messages(SAID, images=["0.jpg"])[0]["content"]) == 2
    wrapped = data_utils.prepare_multimodal_messages(SAID, images=[None])  # of null, as its vision collator wraps it
    assert wrapped[0]["content"][0] == {"type": "image", "image": None}
    with pytest.raises(ValueError, match="does not match number of image placeholders"):
        data_utils.prepare_multimodal_messages(PARTS, images=["0.jpg"])
