"""Whatever lies in an output folder: one clear line or a trained adapter, never a traceback, a hang or a lost file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.training.runs import parts, run, small
from vlcheck.cli.quiet import refusals
from vlcheck.training.ours import check_ours
from vlcheck.training.record import METRICS, read_metrics

LONGEST_SECONDS = 10
SETTINGS = {"max_steps": 2, "save_steps": 1, "gradient_accumulation_steps": 1}
NAMES = (
    "adapter", "checkpoint-1", "checkpoint-2", "metrics.jsonl", "run.json", "loss.png", ".vlcheck-lease-1",
    "adapter/manifest.json", "adapter/adapter_model.safetensors", "adapter/adapter_config.json",
    "checkpoint-2/manifest.json", "checkpoint-2/state.json", "checkpoint-2/optimizer.safetensors",
    "checkpoint-2/rng.safetensors", "checkpoint-1/manifest.json", "checkpoint-1/adapter_model.safetensors",
    "checkpoint-2/pictures.safetensors",
    "checkpoint-3", "notes.txt", "adapter/README.md", "checkpoint-2/notes.txt", "tensorboard", "replay-step-2",
    ".vlcheck-lease-7", "checkpoint-99999999999", "checkpoint-5/.vlcheck-unfinished", "run",
)  # fmt: skip
CONTENTS = (
    b"", b"\0", b"{", b"[]", b"7", b"null", b"[" * 50_000, b"\xff\xfe\xfd", b'{"schema": "vlcheck.run/1"}',
    b'{"step": -5, "loss": 1}\n', b'{"step": 1000000000, "loss": "nan"}\n', b'{"event": 5}\n', b"mine\n" * 100,
    b'{"step": 1, "loss": {"a": 1}}\n{"step": "x", "loss": 2}\n', b'{"schema": "vlcheck.lease/1"}',
    b'{"schema": "vlcheck.checkpoint.unfinished/1", "files": ["../../x", 7, "state.json"]}',
)  # fmt: skip
names = st.sampled_from(NAMES)
changes = st.one_of(
    st.tuples(st.just("delete"), names),
    st.tuples(st.just("truncate"), names, st.floats(0, 1)),
    st.tuples(st.just("replace"), names, st.sampled_from(CONTENTS)),
    st.tuples(st.just("retype"), names, st.sampled_from(["folder", "full folder", "pipe", "link", "loop", "dangling"])),
    st.tuples(st.just("copy"), names, names),
    st.tuples(st.just("cross-copy"), names),
)


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory) -> tuple[Path, Path]:
    """A run that is over, and another one of other settings."""
    root = tmp_path_factory.mktemp("runs")
    run(small(root / "run", **SETTINGS))
    run(small(root / "other", **SETTINGS, seed=7))
    return root / "run", root / "other"


def gone(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def change(root: Path, other: Path, what: tuple) -> None:
    """Do one thing to a folder; what cannot be done, because of what was done before, is left."""
    kind, name, *more = what
    path = root / name
    try:
        if kind == "delete":
            gone(path)
        elif kind == "truncate":
            os.truncate(path, int(path.stat().st_size * more[0]))
        elif kind == "replace":
            gone(path)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(more[0])
        elif kind == "copy":
            source = root / more[0]
            gone(path)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, path)
        elif kind == "cross-copy":
            gone(path)
            (shutil.copytree if (other / name).is_dir() else shutil.copy)(other / name, path)
        else:
            gone(path)
            if more[0] == "pipe":
                os.mkfifo(path)
            elif "folder" in more[0]:
                path.mkdir(parents=True)
                if more[0] == "full folder":
                    (path / "mine").write_text("mine")
            else:
                path.symlink_to({"link": other / "metrics.jsonl", "loop": path, "dangling": "/nowhere"}[more[0]])
    except OSError:
        pass


def outside(root: Path) -> Iterator[tuple[str, str]]:
    """What must be there afterwards: files that no run of vlcheck's wrote, and everything of the other run."""
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 10**7:
            yield str(path), hashlib.sha256(path.read_bytes()).hexdigest()


def ours(root: Path) -> set[str]:
    """Digests of the files that the two runs wrote: copies of them may go."""
    return {told for _, told in outside(root)}


def hung(*_: object) -> None:
    raise AssertionError("it hung")


def attempt(root: Path) -> str:
    """Run on a folder; the line that it ended with, empty if it trained."""
    begun = time.process_time()
    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(6 * LONGEST_SECONDS)  # of a machine that others use as well
    said: list[str] = []
    try:
        run(small(root, **SETTINGS), said.append)
        told = ""
    except refusals() as refused:
        told = str(refused)
        assert told
        assert len(told.splitlines()) == 1
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert time.process_time() - begun < LONGEST_SECONDS
    return told


def hold(tmp: Path, two_runs: tuple[Path, Path], done: list[tuple]) -> None:
    """Change a finished run's folder, run on it, and see that nothing of the user's is lost."""
    parts()
    shutil.rmtree(tmp, ignore_errors=True)
    tmp.mkdir()
    root, other = tmp / "run", tmp / "other"
    shutil.copytree(two_runs[0], root)
    shutil.copytree(two_runs[1], other)
    known = ours(tmp) | {hashlib.sha256(each).hexdigest() for each in CONTENTS if each.startswith(b"{") or not each}
    for what in done:
        change(root, other, what)
    for file in root.glob(".vlcheck-lease-*"):  # of a process that is this one, and long over
        if file.is_file() and b'"released": false' in file.read_bytes():
            file.unlink()
    before = {name: told for name, told in outside(tmp) if told not in known}
    metrics = (root / METRICS).read_bytes() if (root / METRICS).is_file() else b""
    away = dict(outside(other))
    attempt(root)
    after = dict(outside(tmp))
    lost = [name for name, told in before.items() if after.get(name) != told]
    if str(root / METRICS) in lost:  # a run goes on in it, whatever it holds
        assert (root / METRICS).read_bytes().startswith(metrics)
        lost.remove(str(root / METRICS))
    assert lost == []
    assert away.items() <= after.items()


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(done=st.lists(changes, min_size=1, max_size=4))
def test_any_change_of_the_folder(tmp_path_factory, two_runs, done):
    hold(tmp_path_factory.getbasetemp() / "hostile", two_runs, done)


@pytest.mark.slow
@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(done=st.lists(changes, min_size=1, max_size=6))
def test_any_change_of_the_folder_600_times(tmp_path_factory, two_runs, done):
    hold(tmp_path_factory.getbasetemp() / "hostile-slow", two_runs, done)


def test_metrics_of_any_kind_are_read(tmp_path):
    """Lines that are none of a step's are passed over."""
    for content in CONTENTS:
        (tmp_path / "metrics.jsonl").write_bytes(content + b'\n{"step": 3, "loss": 0.5}\n')
        assert [values["step"] for values in read_metrics(tmp_path)][-1:] in ([3], [10**9])


def test_a_checkpoint_whose_parts_are_of_odd_form_is_told(tmp_path, finished):
    """Its manifest is right about files that hold something else."""
    from vlcheck.training.checkpoint import Content, publish
    from vlcheck.training.snapshot import StateMismatch

    spec = finished()
    made = json.loads((tmp_path / "run" / "adapter" / "manifest.json").read_text())
    shutil.rmtree(tmp_path / "run")
    publish(tmp_path / "run" / "checkpoint-1", 1, Content({}, {"state.json": "[1]"}), made["identity"])
    with pytest.raises(StateMismatch, match=r"checkpoint-1.*is no state of a run"):
        run(spec)


def test_folders_of_odd_numbers_are_none(tmp_path):
    for name in ("checkpoint--5", "checkpoint-1000000000000", "checkpoint-x", "checkpoint-٣"):
        (tmp_path / name).mkdir()
    check_ours(tmp_path)
