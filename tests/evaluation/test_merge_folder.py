"""A merge's folder holds nothing or all of it, whatever ends the process; and nothing of anybody else's is touched."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
from collections import namedtuple

import pytest

from vlcheck.evaluation.merge_folder import REPORT, SCHEMA, MergeFailed, check_output, check_room, draft_of, drafted
from vlcheck.spec import ConfigError
from vlcheck.training.lease import FolderTaken
from vlcheck.training.manifest import OPENING, opening_text

NAMES = ("model.safetensors", "config.json")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "merged"


def write(draft):
    for name in NAMES:
        (draft / name).write_text("whole")
    (draft / REPORT).write_text(json.dumps({"schema": SCHEMA, "files": {name: {} for name in NAMES}}))


def test_a_merge_appears_at_once_and_alone(out, tmp_path):
    """Until the last moment nothing is at the output; then all of it is, and nothing beside it."""
    with drafted(out, NAMES) as draft:
        write(draft)
        assert not out.exists()
    assert sorted(file.name for file in out.iterdir()) == sorted([*NAMES, REPORT])
    assert list(tmp_path.iterdir()) == [out]


def test_an_empty_folder_is_filled(out):
    """It may be there, as long as nothing is in it."""
    out.mkdir()
    check_output(out)
    with drafted(out, NAMES) as draft:
        write(draft)
    assert (out / "config.json").exists()


@pytest.mark.parametrize("fault", [RuntimeError("a fault"), KeyboardInterrupt()])
def test_an_exception_leaves_nothing(out, tmp_path, fault):
    """Neither the folder nor the draft."""

    def fail():
        with drafted(out, NAMES) as draft:
            write(draft)
            raise fault

    with pytest.raises(type(fault)):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["begun", "half", "verified", "opening gone"])
def test_what_a_killed_merge_leaves_does_not_look_whole_and_the_next_one_removes_it(out, tmp_path, moment):
    """A process that is killed with signal 9: the output is not there, and the same merge goes through afterwards."""
    child = os.fork()
    if not child:
        with drafted(out, NAMES) as draft:
            if moment != "begun":
                (draft / NAMES[0]).write_text("half")
            if moment in ("verified", "opening gone"):
                write(draft)
            if moment == "opening gone":
                (draft / OPENING).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert not out.exists()
    assert [entry.name for entry in tmp_path.iterdir()] == [draft_of(out).name]

    with drafted(out, NAMES) as draft:
        write(draft)
    assert list(tmp_path.iterdir()) == [out]
    assert sorted(file.name for file in out.iterdir()) == sorted([*NAMES, REPORT])


def test_a_second_merge_to_the_same_place_is_refused(out):
    """The first one goes on."""
    with drafted(out, NAMES) as draft:
        with pytest.raises(FolderTaken, match="writes into it"), drafted(out, NAMES):
            pass
        write(draft)
    assert (out / "config.json").read_text() == "whole"


def test_strangers_in_the_draft_s_place_stay(out):
    """A folder of its name that no merge wrote, or that holds more than one wrote, is refused and left alone."""
    draft = draft_of(out)
    draft.mkdir()
    (draft / "thesis.tex").write_text("mine")
    with (
        pytest.raises(ConfigError, match=r"holds 'thesis\.tex', which no merge of vlcheck's wrote"),
        drafted(out, NAMES),
    ):
        pass
    (draft / OPENING).write_text(opening_text([*NAMES]))
    (draft / NAMES[0]).write_text("half")
    with pytest.raises(ConfigError, match=r"holds 'thesis\.tex'"), drafted(out, NAMES):
        pass
    assert (draft / "thesis.tex").read_text() == "mine"
    assert (draft / NAMES[0]).exists()


@pytest.mark.parametrize("kind", ["full", "file", "link", "dangling"])
def test_an_output_that_is_there_is_refused(out, tmp_path, kind):
    """A folder that holds something, a file, a link to a folder."""
    if kind == "full":
        out.mkdir()
        (out / "notes.txt").write_text("mine")
    elif kind == "file":
        out.write_text("mine")
    else:
        (tmp_path / "other").mkdir()
        out.symlink_to(tmp_path / ("other" if kind == "link" else "nowhere"))
    with pytest.raises(ConfigError, match="is not empty, it holds 'notes.txt'" if kind == "full" else "is no folder"):
        check_output(out)


def test_a_disk_that_is_too_small_is_known_before(out, monkeypatch):
    """Room for the weights, and a little more."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(2**40, 0, 10 * 2**30))
    check_room(out, 9 * 2**30)
    with pytest.raises(
        ConfigError, match=r"has too small a disk: 10\.0 GiB free, and the merged model takes 10\.1 GiB"
    ):
        check_room(out, 10 * 2**30)


def test_a_disk_that_fills_up_leaves_nothing(out, tmp_path):
    """The system refuses the bytes behind a limit, as a full disk does; one line says so."""

    def fill():
        with drafted(out, NAMES) as draft, (draft / NAMES[0]).open("wb") as file:
            file.write(b"x" * 50_000)

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(MergeFailed, match="nothing was written: File too large") as refused:
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert len(str(refused.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
