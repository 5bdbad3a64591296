"""What makes two runs the same run: what they learn from, not where it lies or how the work is divided."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.training.runs import digest, interrupted, parts, run, small
from vlcheck.data import progress
from vlcheck.data.conversation import Conversation, Picture, Turn
from vlcheck.model.build import Weights, build_unadapted
from vlcheck.spec import Data
from vlcheck.training.checkpoint import OtherRun
from vlcheck.training.content import END_BYTES, row_digest
from vlcheck.training.order import Listed, Order, Streamed
from vlcheck.training.ours import folders
from vlcheck.training.pictures import Pictures
from vlcheck.training.record import read_metrics
from vlcheck.training.rows import read_training_rows
from vlcheck.training.watch import RunStopped


def photos(folder: Path, form: str = "png") -> Path:
    """Eight pictures and a table of them."""
    folder.mkdir()
    rows = []
    for number in range(8):
        Image.effect_noise((64, 64), 40 + number).convert("RGB").save(folder / f"{number}.{form}")
        rows.append(json.dumps({"image": f"{number}.{form}", "label": ("red", "blue")[number % 2]}))
    (folder / "train.jsonl").write_text("\n".join(rows) + "\n")
    return folder


def on(data: Path, output: Path, **training):
    spec = small(output, **training)
    return replace(spec, data=Data(path=str(data), instruction="Which?", max_soft_tokens=70))


def relabelled(folder: Path) -> None:
    table = folder / "train.jsonl"
    table.write_text(table.read_text().replace('"red"', '"green"', 1))


def reordered(folder: Path) -> None:
    table = folder / "train.jsonl"
    table.write_text("".join(reversed(table.read_text().splitlines(keepends=True))))


def repainted(folder: Path) -> None:
    Image.effect_noise((64, 64), 99).convert("RGB").save(folder / "3.png")


def shortened(folder: Path) -> None:
    table = folder / "train.jsonl"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """A run on photos that was interrupted, `run`, beside its `data`."""
    root = tmp_path_factory.mktemp("begun")
    interrupted(on(photos(root / "data"), root / "run"), 2)
    return root


@pytest.mark.parametrize("change", [relabelled, reordered, repainted, shortened])
def test_changed_data_is_another_run(tmp_path, begun, change: Callable[[Path], None]):
    data, _ = (shutil.copytree(begun / name, tmp_path / name) for name in ("data", "run"))
    spec = on(data, tmp_path / "run")
    change(data)
    with pytest.raises(OtherRun, match=r"data\.rows: "):
        run(spec)


def test_moved_data_is_the_same_run(tmp_path, begun):
    """Neither a path nor the times of files are content."""
    moved, _ = (shutil.copytree(begun / name, tmp_path / to) for name, to in (("data", "elsewhere"), ("run", "run")))
    for file in moved.iterdir():
        os.utime(file, (1, 1))
    assert run(on(moved, tmp_path / "run")).resumed_from == 2


def test_a_row_is_told_by_all_of_it(tmp_path):
    """Roles, texts, thinking, the place of an image, its size, head and tail."""
    (tmp_path / "a").write_bytes(bytes(3 * END_BYTES))
    base = Conversation((Turn("user", (Picture(tmp_path / "a"), "?")), Turn("assistant", ("red",), "hm")), "row")
    user, answer = base.turns
    files = {"head": b"\1" + bytes(3 * END_BYTES - 1), "tail": bytes(3 * END_BYTES - 1) + b"\1", "size": bytes(9)}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    others = [
        Conversation((user, Turn("assistant", ("blue",), "hm")), "row"),
        Conversation((user, Turn("assistant", ("red",), "so")), "row"),
        Conversation((Turn("system", ("be",)), user, answer), "row"),
        Conversation((Turn("user", ("?", Picture(tmp_path / "a"))), answer), "row"),
        *(Conversation((Turn("user", (Picture(tmp_path / name), "?")), answer), "row") for name in files),
    ]
    assert len({row_digest(row) for row in (base, *others)}) == len(others) + 1
    assert row_digest(replace(base, name="elsewhere:7")) == row_digest(base)


def test_a_changed_base_is_another_run_and_a_moved_one_is_not(tmp_path):
    build_unadapted(small("none"), Weights.RANDOM, config=parts()["config"]).save_pretrained(tmp_path / "base")

    def spec(base: Path):
        made = small(tmp_path / "run", gradient_accumulation_steps=1)
        return replace(made, model=replace(made.model, id=str(base), weights="pretrained"))

    interrupted(spec(tmp_path / "base"), 2)
    moved = (tmp_path / "base").rename(tmp_path / "moved")
    with (moved / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        tail = file.read()
        file.seek(-4, 2)
        file.write(b"\0\0\0\1")
    with pytest.raises(OtherRun, match=r"model\.base: "):
        run(spec(moved))
    with (moved / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(tail)
    assert run(spec(moved)).resumed_from == 2


def test_a_changed_patch_is_another_run(tmp_path, monkeypatch):
    """By its source, though it keeps its name."""
    import importlib
    import sys

    monkeypatch.syspath_prepend(str(tmp_path))
    source = tmp_path / "own_patch.py"

    def patch():
        importlib.invalidate_caches()
        sys.modules.pop("own_patch", None)
        return importlib.import_module("own_patch").apply

    source.write_text("def apply(base):\n    return base\n")
    interrupted(small(tmp_path / "run", gradient_accumulation_steps=1), 2, patch=patch())
    source.write_text("def apply(base):\n    return base  # another\n")
    with pytest.raises(OtherRun, match=r"model\.patch\.source: "):
        run(small(tmp_path / "run", gradient_accumulation_steps=1), patch=patch())


def test_how_the_work_is_divided_may_change(tmp_path):
    """The effective batch stays; losses agree within 1e-3, and the record says what changed."""
    whole, parted = (small(tmp_path / name, max_steps=3) for name in ("whole", "parted"))
    whole, parted = (replace(spec, lora=replace(spec.lora, lora_dropout=0.0)) for spec in (whole, parted))
    run(whole)
    interrupted(parted, 2)
    settings = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "dataloader_num_workers": 1}
    told: list[str] = []
    run(replace(parted, training=replace(parted.training, save_steps=3, **settings)), told.append)
    assert any("micro-batch 2 after 1, accumulation 1 after 2: the losses agree" in line for line in told)
    losses = [[m["loss"] for m in read_metrics(tmp_path / name)] for name in ("whole", "parted")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert losses[0][:2] == losses[1][:2]
    ours, theirs = (load_file(tmp_path / n / "adapter" / "adapter_model.safetensors") for n in ("whole", "parted"))
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-2) for name in ours)


def test_another_effective_batch_is_another_run(parted):
    spec = parted()
    with pytest.raises(OtherRun, match="effective_batch: 2 there, 4 here"):
        run(replace(spec, training=replace(spec.training, per_device_train_batch_size=2)))


def test_other_versions_are_told(parted):
    """And do not stop the run: the formats are the same."""
    from vlcheck.training import keeper

    spec, told = parted(), []
    before = keeper.installed
    keeper.installed = lambda: {**before(), "torch": "99.0"}
    try:
        assert run(spec, told.append).resumed_from == 2
    finally:
        keeper.installed = before
    assert any("torch 99.0 after " in line and "other versions may compute otherwise" in line for line in told)


def test_a_stream_is_told_by_what_was_consumed(tmp_path):
    """Rows behind the checkpoint may change; one before it may not."""
    data = photos(tmp_path / "data")
    spec = on(data, tmp_path / "run", max_steps=3, gradient_accumulation_steps=1)
    interrupted(spec, 2, rows=read_training_rows(spec, stream=True))
    kept = (data / "train.jsonl").read_text()
    (data / "train.jsonl").write_text(kept.replace('"red"', '"green"'))
    with pytest.raises(RunStopped, match=r"the first 2 rows of the stream are not those"):
        run(spec, rows=read_training_rows(spec, stream=True))
    (data / "train.jsonl").write_text(kept)
    assert run(spec, rows=read_training_rows(spec, stream=True)).resumed_from == 2


def changed_in_the_middle(picture: Path) -> None:
    """Where neither size nor head nor tail tell of it."""
    with picture.open("r+b") as file:
        file.seek(END_BYTES + 100)
        file.write(b"\xff" * 300)


def test_a_picture_changed_in_its_middle_is_named_when_it_is_decoded_again(tmp_path):
    """By the row that was trained on it before; what was finished until then is kept."""
    data = photos(tmp_path / "data", "bmp")
    spec = on(data, tmp_path / "run", max_steps=4, gradient_accumulation_steps=1)
    spec = replace(spec, data=replace(spec.data, train_samples=2))
    interrupted(spec, 2)
    for number in range(2):
        changed_in_the_middle(data / f"{number}.bmp")
    with pytest.raises(RunStopped, match=r"train\.jsonl:[12]: its image is not the one that the run was trained on"):
        run(spec)
    assert [folder.name for folder in folders(tmp_path / "run")] == ["checkpoint-2"]


def test_pictures_are_what_they_were_when_they_were_decoded(tmp_path):
    """One that no step has seen may change; one that cannot be read for a while is the same when it can be."""
    rows = read_training_rows(on(photos(tmp_path / "data", "bmp"), tmp_path)).conversations
    files = [row.pictures[0].source for row in rows]
    source, pictures = Listed(rows, Order(8, 16, 1, 1, 1, seed=0)), Pictures(rows)
    order = [source.order.row(place) for place in range(8)]
    pictures.note(source.digests((0, 1)))
    assert pictures.taken().keys() == set(order[:2])
    pictures.merge([{order[2]: dict(source.digests((2,)))[order[2]]}])  # another process took it

    for unseen in order[3:]:
        changed_in_the_middle(files[unseen])
    pictures.note(source.digests(tuple(range(8))))
    away = files[order[0]].rename(tmp_path / "away")
    pictures.note(source.digests((0,)))
    away.rename(files[order[0]])
    pictures.note(source.digests((0,)))
    for row in order[1:3]:
        changed_in_the_middle(files[row])
        with pytest.raises(RunStopped, match=f"train.jsonl:{row + 1}: its image is not"):
            pictures.note(source.digests((order.index(row),)))


def test_a_stream_is_told_by_its_pictures_in_full(tmp_path):
    spec = on(photos(tmp_path / "data", "bmp"), tmp_path)
    begin = read_training_rows(spec, stream=True).stream
    before = Streamed(begin, seed=0)
    before.take((0, 1))
    now = Streamed(begin, seed=0)
    now.expect(*before.consumed(1))
    for number in range(8):
        changed_in_the_middle(tmp_path / "data" / f"{number}.bmp")
    with pytest.raises(RunStopped, match="the first 2 rows of the stream are not those"):
        now.take((2,))


def test_progress_is_told_while_rows_are_read_and_compared(tmp_path, monkeypatch):
    """How many, of how many where that is known; nothing any more once the run begins."""
    monkeypatch.setattr(progress, "TELL_SECONDS", -1.0)
    spec, told = on(photos(tmp_path / "data"), tmp_path / "run", max_steps=1), list[str]()
    run(spec, lambda line: told.append(line[:6]), read_training_rows(spec, progress=told.append), progress=told.append)
    told = [re.sub(r" \([\d,]+ a second\)", "", line) for line in told]
    assert told[:2] == ["Reading rows of 'train': 1", "Reading rows of 'train': 2"]
    assert told[15:18] == [f"Comparing rows: 8 of 8 {'━' * 20}", "", "step 1"]


def test_the_summary_tells_what_was_trained(tmp_path, finished):
    """Digests, settings, versions: without the config beside it."""
    finished()
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert {"data.rows", "model.base", "model.processor", "effective_batch"} <= told["identity"].keys()
    assert told["settings"]["training.per_device_train_batch_size"] == 1
    assert told["processes"] == 1
    assert digest(tmp_path / "run")
    assert folders(tmp_path / "run")
