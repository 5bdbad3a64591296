"""Nothing that vlcheck did not write is removed from an output folder, or written over."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.training.runs import run, small
from vlcheck.training.checkpoint import Content, free_name, prune, publish, verify
from vlcheck.training.manifest import MANIFEST, OPENING, NotOurs, opening_text, read_manifest
from vlcheck.training.ours import ForeignFiles, Standing, check_ours, folders, remove, standing

CONTENT = Content({"weights.safetensors": {"a": torch.arange(64.0)}}, {"state.json": "{}"})


def snapshot(root: Path) -> dict[str, str]:
    """Everything below a folder: digests of files, targets of links."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "other"
    return found


def trainers_checkpoint(root: Path) -> str:
    folder = root / "checkpoint-500"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text("{}")
    save_file({"a": torch.ones(2)}, folder / "adapter_model.safetensors")
    return "checkpoint-500"


def pefts_adapter(root: Path) -> str:
    folder = root / "adapter"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("# mine")
    (folder / "adapter_config.json").write_text("{}")
    save_file({"a": torch.ones(2)}, folder / "adapter_model.safetensors")
    return "adapter"


def edited_adapter(root: Path) -> str:
    folder = publish(root / "adapter", 4, CONTENT, {}).folder
    (folder / "state.json").write_text('{"edited": true}')
    return "adapter"


def linked_adapter(root: Path) -> str:
    root.mkdir(parents=True, exist_ok=True)
    publish(root.parent / "elsewhere", 4, CONTENT, {})
    (root / "adapter").symlink_to(root.parent / "elsewhere")
    return "adapter is a symbolic link"


def linked_checkpoint(root: Path) -> str:
    root.mkdir(parents=True, exist_ok=True)
    publish(root.parent / "elsewhere", 4, CONTENT, {})
    (root / "checkpoint-4").symlink_to(root.parent / "elsewhere")
    return "checkpoint-4 is a symbolic link"


def a_file(name: str, text: str) -> Callable[[Path], str]:
    def make(root: Path) -> str:
        root.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
        return name

    return make


def a_folder(name: str) -> Callable[[Path], str]:
    def make(root: Path) -> str:
        (root / name / "notes").mkdir(parents=True)
        return name

    return make


def a_pipe(name: str) -> Callable[[Path], str]:
    def make(root: Path) -> str:
        root.mkdir(parents=True, exist_ok=True)
        os.mkfifo(root / name)
        return name

    return make


def notes_in_a_torn_one(root: Path) -> str:
    folder = root / "checkpoint-3"
    folder.mkdir(parents=True)
    (folder / OPENING).write_text(opening_text(["state.json"]))
    (folder / "notes.txt").write_text("mine")
    return "checkpoint-3"


FOREIGN: dict[str, Callable[[Path], str]] = {
    "a checkpoint of transformers' Trainer": trainers_checkpoint,
    "an adapter of PEFT's": pefts_adapter,
    "an edited adapter": edited_adapter,
    "a linked adapter": linked_adapter,
    "a linked checkpoint": linked_checkpoint,
    "notes in a torn checkpoint": notes_in_a_torn_one,
    "an adapter that is a file": a_file("adapter", "mine"),
    "another program's metrics": a_file("metrics.jsonl", '{"epoch": 1}\n'),
    "notes for metrics": a_file("metrics.jsonl", "mine\n"),
    "another program's run.json": a_file("run.json", '{"schema": "mine"}'),
    "a list for run.json": a_file("run.json", "[1]"),
    "another program's loss.png": a_file("loss.png", "mine"),
    "a folder for metrics": a_folder("metrics.jsonl"),
    "a folder for run.json": a_folder("run.json"),
    "a pipe for metrics": a_pipe("metrics.jsonl"),
    "a pipe for run.json": a_pipe("run.json"),
    "a pipe for the curve": a_pipe("loss.png"),
    "a file for tensorboard": a_file("tensorboard", "mine"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_not_ours_is_refused_by_name_before_anything_is_written(tmp_path, kind):
    root = tmp_path / "run"
    name = FOREIGN[kind](root)
    before = snapshot(tmp_path)
    with pytest.raises(ForeignFiles, match=r"choose another training\.output_dir") as refused:
        run(small(root, max_steps=1))
    assert f"{root}/{name}" in str(refused.value)
    assert snapshot(tmp_path) == before


def test_each_of_several_is_named(tmp_path):
    root = tmp_path / "run"
    for make in (trainers_checkpoint, pefts_adapter, a_file("run.json", "{}"), a_file("loss.png", "")):
        make(root)
    with pytest.raises(ForeignFiles, match=r"adapter: no manifest.*checkpoint-500.*run\.json.*; and 1 more"):
        check_ours(root)


def test_other_things_of_the_users_are_no_hindrance(tmp_path):
    """And stay as they are: notes, a file that is named like a checkpoint, another folder."""
    root = tmp_path / "run"
    (root / "data").mkdir(parents=True)
    for name in ("README.md", "checkpoint-2", "data/rows.csv"):
        (root / name).write_text("mine")
    before = snapshot(root)
    run(small(root, max_steps=2, save_total_limit=1))
    assert before.items() <= snapshot(root).items()
    assert verify(root / "checkpoint-2-2").step == 2


@pytest.mark.parametrize("change", ["a note beside", "an edit", "an edit of the manifest"])
def test_a_checkpoint_that_was_touched_is_never_pruned(tmp_path, change):
    for step in (2, 4):
        publish(free_name(tmp_path, step), step, CONTENT, {})
    touched = tmp_path / "checkpoint-2"
    name = {"a note beside": "notes.txt", "an edit": "state.json", "an edit of the manifest": MANIFEST}[change]
    (touched / name).write_text('{"mine": 1}')
    before = snapshot(touched)
    prune(tmp_path, publish(free_name(tmp_path, 6), 6, CONTENT, {}), 1)
    assert snapshot(touched) == before
    assert not (tmp_path / "checkpoint-4").exists()


def test_a_finished_adapter_with_notes_beside_is_left_alone(tmp_path, finished):
    """The run is done; there is nothing to write over."""
    spec = finished()
    (tmp_path / "run" / "adapter" / "README.md").write_text("mine")
    told: list[str] = []
    run(spec, told.append)
    assert told[-1].startswith("nothing to do: ")
    assert (tmp_path / "run" / "adapter" / "README.md").read_text() == "mine"


def test_publishing_onto_a_folder_removes_nothing(tmp_path):
    """Whoever made it: the name is taken."""
    pefts_adapter(tmp_path)
    before = snapshot(tmp_path)
    with pytest.raises(Exception, match="adapter: File exists"):
        publish(tmp_path / "adapter", 1, CONTENT, {})
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("left", range(6))
def test_a_removal_that_was_interrupted_is_ended(tmp_path, left, monkeypatch):
    """Wherever it ended, what is left says whose it is, is no whole checkpoint, and goes at the next start."""
    root = tmp_path
    made = publish(free_name(root, 2), 2, CONTENT, {})
    (made.folder / OPENING).write_text(opening_text(["state.json"]))
    unlink = Path.unlink
    calls = []

    def interrupted_unlink(path: Path, missing_ok: bool = False) -> None:
        calls.append(path)
        if len(calls) > left:
            raise OSError("cut")
        unlink(path, missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", interrupted_unlink)
        if left < 4:
            with pytest.raises(OSError, match="cut"):
                remove(made.folder)
        else:
            remove(made.folder)
    if made.folder.exists():
        assert standing(made.folder)[0] in (Standing.TORN, Standing.WHOLE)
        check_ours(root)
        assert remove(made.folder)
    assert folders(root) == []


def test_an_adapter_that_was_being_written_is_begun_anew(tmp_path, finished):
    spec = finished()
    adapter = tmp_path / "run" / "adapter"
    manifest = json.loads((adapter / MANIFEST).read_text())
    (adapter / MANIFEST).unlink()
    (adapter / OPENING).write_text(opening_text(list(manifest["files"])))
    assert standing(adapter)[0] is Standing.TORN
    run(spec)
    assert verify(adapter).step == 4
    shutil.rmtree(adapter)
    adapter.mkdir()
    (adapter / OPENING).write_text("")
    run(spec)
    assert verify(adapter).step == 4


def drafts(folder: Path) -> set[str]:
    """Names that safetensors gives a file while it writes it."""
    seen: set[str] = set()
    writing = threading.Thread(target=save_file, args=({"a": torch.zeros(20_000_000)}, folder / "w.safetensors"))
    writing.start()
    while writing.is_alive():
        seen |= set(os.listdir(folder))  # noqa: PTH208  as fast as can be
    writing.join()
    return seen - {"w.safetensors"}


def test_a_kill_while_safetensors_writes_leaves_what_is_ours(tmp_path):
    """The library writes to a name of its own and renames: that file stands in no opening."""
    (scratch := tmp_path / "scratch").mkdir()
    for name in drafts(scratch) | {".tmpxCczip"}:
        folder = tmp_path / "run" / "checkpoint-2"
        folder.mkdir(parents=True)
        (folder / name).write_bytes(b"half")
        assert standing(folder)[0] is Standing.FOREIGN
        (folder / OPENING).write_text(opening_text(["w.safetensors"]))
        assert standing(folder)[0] is Standing.TORN
        (folder / ".tmp-notes").write_text("mine")
        assert standing(folder)[0] is Standing.FOREIGN
        (folder / ".tmp-notes").unlink()
        check_ours(tmp_path / "run")
        assert remove(folder)


ODD_MANIFESTS = {
    "a list": "[1, 2]",
    "a number": "7",
    "deep JSON": "[" * 100_000,
    "not UTF-8": b"\xff\xfe{}",
    "empty": "",
    "no files": {"step": 1, "identity": {}},
    "files are a list": {"step": 1, "identity": {}, "files": ["a"]},
    "identity is a text": {"step": 1, "identity": "x", "files": {}},
    "step is a text": {"step": "1", "identity": {}, "files": {}},
    "step is true": {"step": True, "identity": {}, "files": {}},
    "step -5": {"step": -5, "identity": {}, "files": {}},
    "step 10^10": {"step": 10**10, "identity": {}, "files": {}},
    "path above": {"step": 1, "identity": {}, "files": {"../../x": {"bytes": 1, "sha256": "0" * 64}}},
    "absolute path": {"step": 1, "identity": {}, "files": {"/etc/passwd": {"bytes": 1, "sha256": "0" * 64}}},
    "backslashes": {"step": 1, "identity": {}, "files": {"..\\x": {"bytes": 1, "sha256": "0" * 64}}},
    "itself": {"step": 1, "identity": {}, "files": {MANIFEST: {"bytes": 1, "sha256": "0" * 64}}},
    "no size": {"step": 1, "identity": {}, "files": {"a": {"sha256": "0" * 64}}},
    "size is a text": {"step": 1, "identity": {}, "files": {"a": {"bytes": "1", "sha256": "0" * 64}}},
    "negative size": {"step": 1, "identity": {}, "files": {"a": {"bytes": -1, "sha256": "0" * 64}}},
    "digest is a number": {"step": 1, "identity": {}, "files": {"a": {"bytes": 1, "sha256": 0}}},
    "a file is a text": {"step": 1, "identity": {}, "files": {"a": "b"}},
}


@pytest.mark.parametrize("kind", ODD_MANIFESTS)
def test_a_manifest_of_odd_form_is_none(tmp_path, kind):
    """Though its digest over itself is right."""
    from vlcheck.training.identity import fingerprint
    from vlcheck.training.manifest import SCHEMA

    planted = ODD_MANIFESTS[kind]
    if isinstance(planted, dict):
        body = {"schema": SCHEMA, **planted}
        planted = json.dumps({**body, "sha256": fingerprint(body)})
    (tmp_path / MANIFEST).write_bytes(planted if isinstance(planted, bytes) else planted.encode())
    with pytest.raises(NotOurs):
        read_manifest(tmp_path)


def test_a_pipe_and_a_link_for_a_manifest_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / MANIFEST)
    with pytest.raises(NotOurs, match="no regular file"):
        read_manifest(tmp_path)
    (tmp_path / MANIFEST).unlink()
    (tmp_path / MANIFEST).symlink_to("/dev/zero")
    with pytest.raises(NotOurs, match="no regular file"):
        read_manifest(tmp_path)
