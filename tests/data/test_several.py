"""Several data sets of one run: the rows of the second are trained behind those of the first, each by its own name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.photos import write_json_lines, write_photo
from vlcheck.config.load import load
from vlcheck.data.read import RowProblem, count_pictures, read_rows
from vlcheck.data.scan import scan_data
from vlcheck.finding import Unavailable
from vlcheck.spec import ConfigError, Data, Lora, ModelRef, RunSpec, Source
from vlcheck.training.identity import settings_of


def write(folder: Path, name: str, count: int, **row: str) -> Path:
    """A file of rows, and the picture that all of them show."""
    write_photo(folder / "1.jpg", 1)
    return write_json_lines(folder / name, [{"image": "1.jpg", "label": f"{name} {n}", **row} for n in range(count)])


@pytest.fixture
def data(tmp_path):
    (tmp_path / "other").mkdir()
    first, second = write(tmp_path, "a.jsonl", 3), write(tmp_path / "other", "b.jsonl", 4, split="training")
    more = Source(path=str(second), split="training", samples=2)
    return Data(path=str(first), train_samples=2, more=(more,))


def test_rows_follow_each_other(data):
    """Each by its own file, at most as many as each is to give, all of the split that the run trains on."""
    rows = list(read_rows(data, "train"))

    assert [(row.name, row.answer, row.split) for row in rows] == [
        ("a.jsonl:1", "a.jsonl 0", "train"),
        ("a.jsonl:2", "a.jsonl 1", "train"),
        ("b.jsonl:1", "b.jsonl 0", "train"),
        ("b.jsonl:2", "b.jsonl 1", "train"),
    ]
    assert count_pictures(data) is None


def test_a_scan_sees_all_of_them(data):
    """No image lies outside where the rows lie in several places."""
    scan = scan_data(data)

    assert (scan.splits["train"].rows, scan.looked_at, scan.outside.count) == (4, 4, 0)


def test_files_that_are_called_alike_have_their_folders(data, tmp_path):
    (tmp_path / "third").mkdir()
    third = write(tmp_path / "third", "a.jsonl", 1)
    Path(third).write_text(json.dumps({"image": "1.jpg"}) + "\n")
    both = Data(path=data.path, train_samples=1, more=(Source(path=str(third)),))
    good, bad = read_rows(both, "train")

    assert good.name == f"{tmp_path.name}/a.jsonl:1"
    assert isinstance(bad, RowProblem)
    assert str(bad).startswith("third/a.jsonl:1: ")


def test_a_data_set_that_is_not_here_is_said(data):
    """Rows of the others alone would be another run."""
    with pytest.raises(Unavailable, match=r"nowhere/at-all"):
        list(read_rows(Data(path=data.path, more=(Source(dataset="nowhere/at-all"),)), "train", offline=True))


def test_a_config_names_them(data, tmp_path):
    """Paths are relative to it; one that is not there is refused at its place."""
    text = "model: {id: a/b}\nlora: {}\ndata:\n  path: ./a.jsonl\n  more:\n    - {path: ./other/b.jsonl, samples: 2}\n"
    (tmp_path / "run.yaml").write_text(text)
    (source,) = load(tmp_path / "run.yaml").data.more
    assert source == Source(path=str(tmp_path / "other/b.jsonl"), samples=2)

    (tmp_path / "run.yaml").write_text(text.replace("b.jsonl", "c.jsonl"))
    with pytest.raises(ConfigError, match=r"run.yaml:6:\d+: data.more.0.path is") as caught:
        load(tmp_path / "run.yaml")
    assert len(caught.value.problems) == 1
    with pytest.raises(ValueError, match="one of the two"):
        Source(path="a", dataset="b")


def test_another_data_set_is_another_run(data):
    """A checkpoint tells the two apart."""
    spec = RunSpec(model=ModelRef(id="a/b"), lora=Lora(), data=data)
    settings = settings_of(spec)

    assert settings["data.more.0.path"] == data.more[0].path
    assert settings["data.more.0.samples"] == 2
