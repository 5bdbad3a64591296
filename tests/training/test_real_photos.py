"""Oxford-IIIT Pet from a local copy: its labels.csv, its splits, its odd files."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.photos import SHARED
from tests.training.runs import run, small
from vlcheck.data.read import Row, read_rows
from vlcheck.spec import Data
from vlcheck.training.record import read_metrics

PETS = SHARED / "pets"
pytestmark = pytest.mark.skipif(not PETS.is_dir(), reason="../shared/data/pets is not here")


def test_real_photos_are_trained(tmp_path):
    """A step of eight photos each; nothing is left out, every row has its image's soft tokens and its breed."""
    data = Data(
        path=str(PETS), train_split="trainval", instruction="Which breed is it?", image_column="file",
        answer_column="breed", max_soft_tokens=70,
    )  # fmt: skip
    rows = [row for row in read_rows(data, "trainval") if isinstance(row, Row)]
    assert len(rows) > 300
    assert len({row.answer for row in rows}) == 37
    spec = small(tmp_path, max_steps=1, per_device_train_batch_size=4)
    trained = run(replace(spec, data=data))
    assert trained.unreadable == ()
    assert [m["images"] for m in read_metrics(tmp_path)] == [8]
