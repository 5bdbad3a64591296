"""Data that cannot be read is said above the summary, and the evaluation split is judged, whatever reads it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests import tiny
from tests.photos import encoded, photo, write_photo
from tests.samples import judged_labels
from vlcheck.engine import audit
from vlcheck.evidence.resolve import Evidence
from vlcheck.finding import Verdict
from vlcheck.model.config import ModelConfig
from vlcheck.spec import Data, Intent, Lora, ModelRef, RunSpec, Training

LONG = " ".join(["spotted"] * 30)


def unread(kind: str, folder: Path) -> Data:
    """Data of which no row can be used."""
    path = folder / {"folder": "photos", "text": "notes.txt"}.get(kind, f"rows.{kind}")
    match kind:
        case "folder":
            path.mkdir()
        case "json":
            path.write_text(json.dumps([{"conversations": "hello"}] * 3), "utf-8")
        case "jsonl":
            path.write_text('{"messages": \n{\n', "utf-8")
        case "parquet" | "text":
            path.write_bytes(b"neither")
    return Data(path=str(path))


@pytest.mark.parametrize("kind", ["folder", "json", "jsonl", "parquet", "text", "hub"])
def test_no_data_was_read(kind, tmp_path):
    """No such data set, no rows, or none that can be used: the line above the summary says so."""
    data = Data(dataset="org/none") if kind == "hub" else unread(kind, tmp_path)
    spec = RunSpec(model=ModelRef(id="none"), lora=Lora(), data=data, training=Training(framework="vlcheck"))

    report = audit(spec, offline=True, select=("VLC518", "VLC519"))

    *above, _summary = report.text().strip().splitlines()
    assert "NO DATA WAS READ" in report.remarks[-1]
    assert "NO DATA WAS READ" in " ".join(above)


def as_folder(folder: Path, rows: Sequence[tuple[str, str]]) -> None:
    """A folder a split, a folder a class, whose name is the answer."""
    for number, (split, answer) in enumerate(rows):
        write_photo(folder / split / answer / f"{number}.jpg", number)


def as_lines(folder: Path, rows: Sequence[tuple[str, str]]) -> None:
    """One file of rows that name their split."""
    write_photo(folder / "0.jpg", 0)
    lines = [json.dumps({"image": "0.jpg", "label": answer, "split": split}) for split, answer in rows]
    (folder / "metadata.jsonl").write_text("\n".join(lines), "utf-8")


def as_conversations(folder: Path, rows: Sequence[tuple[str, str]]) -> None:
    """LLaVA's lists, a file a split."""
    write_photo(folder / "0.jpg", 0)
    for split in ("train", "test"):
        said = [
            [{"from": "human", "value": "<image>\nName it."}, {"from": "gpt", "value": answer}]
            for of, answer in rows
            if of == split
        ]
        listed = [{"image": "0.jpg", "conversations": turns} for turns in said]
        (folder / f"{split}.json").write_text(json.dumps(listed), "utf-8")


def as_parquet(folder: Path, rows: Sequence[tuple[str, str]]) -> None:
    """Images as bytes, laid out as on the Hub."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    for split in ("train", "test"):
        images = [{"image": {"bytes": encoded(photo(0)), "path": None}, "label": a} for of, a in rows if of == split]
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(exist_ok=True)
        datasets.Dataset.from_list(images, features=features).to_parquet(str(path))


def cut_answers(write: Callable[[Path, Sequence[tuple[str, str]]], None], folder: Path, *answers: str) -> list[Any]:
    """What VLC203 finds of data with two short rows to train on, and these answers to evaluate on."""
    write(folder, [("train", "pug"), ("train", "beagle"), *(("test", answer) for answer in answers)])
    spec = RunSpec(
        model=ModelRef(id="none"), lora=Lora(), training=Training(framework="vlcheck"), intent=Intent(),
        data=Data(path=str(folder), eval_split="test", instruction="Name it.", max_length=300),
    )  # fmt: skip
    known = {name: value for name, value in judged_labels(tiny.gemma4).items() if name != "checks"}
    report = audit(spec, offline=True, select=("VLC203",), config=ModelConfig(tiny.gemma4(), "test"), **known)
    assert all(outcome.verdict in (Verdict.PASSED, Verdict.FOUND) for outcome in report.outcomes)
    return [finding for outcome in report.found() for finding in outcome.findings]


@pytest.mark.parametrize("write", [as_folder, as_lines, as_conversations, as_parquet])
def test_an_answer_that_is_cut_in_the_evaluation_split(write, tmp_path):
    """Rows to train on are short; one to evaluate on is longer than the limit, and is found by every reader."""
    (finding,) = cut_answers(write, tmp_path, "pug", LONG)
    assert finding.measured["rows"] == 1


def test_short_answers_are_not_cut(tmp_path):
    """Nor is the run told of a built-in row that is longer than its limit, where its own rows are read."""
    assert not cut_answers(as_lines, tmp_path, "pug", "beagle")


def test_rows_that_lost_their_images_are_no_measure(tmp_path):
    """Images are promised and stand in a column that is not read: the plan is not for such rows."""
    said = [{"role": "user", "content": "Name it."}, {"role": "assistant", "content": "pug"}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": said, "imgs": ["0.jpg"]}), "utf-8")
    known = {name: value for name, value in judged_labels(tiny.gemma4).items() if name != "checks"}
    for modalities, rows in ((("image", "text"), 0), (("text",), 1)):
        data = Data(path=str(tmp_path / "rows.jsonl"), modalities=modalities)
        spec = RunSpec(model=ModelRef(id="none"), lora=Lora(), data=data)
        found = Evidence(spec, {"config": ModelConfig(tiny.gemma4(), "test"), **known}, offline=True).get("lengths")
        assert len(found.rows) == rows


def test_the_evaluation_split_is_measured_where_it_is_evaluated(tmp_path):
    """Its rows are longer than those that are trained; a run that evaluates afterwards alone does not ask for them."""
    as_folder(tmp_path, [("train", "pug"), ("test", "beagle"), ("test", LONG)])
    known = {name: value for name, value in judged_labels(tiny.gemma4).items() if name != "checks"}
    data = Data(path=str(tmp_path), eval_split="test", instruction="Name it.")
    for strategy, rows in (("epoch", 2), ("no", 0)):
        spec = RunSpec(model=ModelRef(id="none"), lora=Lora(), data=data, training=Training(eval_strategy=strategy))
        found = Evidence(spec, {"config": ModelConfig(tiny.gemma4(), "test"), **known}, offline=True).get("lengths")
        evaluated = found.evaluated.rows if found.evaluated else ()
        assert (len(found.rows), len(evaluated)) == (1, rows)
        assert max((row.tokens for row in evaluated), default=999) > found.rows[0].tokens + 100
