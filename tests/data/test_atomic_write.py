"""Files are written whole, and what cannot be written is known before the work."""

from __future__ import annotations

import os
import threading

import pytest

from vlcheck.data.atomic_write import check_writable, write_whole


@pytest.mark.parametrize(
    ("place", "reason"),
    [(".", "is a folder"), ("missing/report.json", "no such folder"), ("file/report.json", "no such folder")],
)
def test_places_that_cannot_be_written(tmp_path, place, reason):
    """A folder, a missing folder and a file in a folder's place are refused."""
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=reason):
        check_writable(tmp_path / place)


def test_refusals_of_the_system_are_found_early(tmp_path):
    """What access rights do not tell, trying does: no user can create files in /proc."""
    with pytest.raises(OSError, match="folder is not writable"):
        check_writable(type(tmp_path)("/proc/report.json"))


def test_checking_leaves_nothing_behind(tmp_path):
    """Neither the file nor a draft of it exists after the check."""
    check_writable(tmp_path / "report.json")
    assert list(tmp_path.iterdir()) == []


def test_written_as_utf8_with_usual_rights(tmp_path):
    """A new file has the rights that any new file has; an old one keeps its own; no draft is left."""
    new, old, usual = tmp_path / "new", tmp_path / "old", tmp_path / "usual"
    usual.touch()
    old.touch(mode=0o640)
    old.chmod(0o640)
    write_whole(new, "±\n")
    write_whole(old, "±\n")

    assert new.read_bytes() == old.read_bytes() == b"\xc2\xb1\n"
    assert new.stat().st_mode == usual.stat().st_mode
    assert old.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old", "usual"]


def test_failure_leaves_the_old_file(tmp_path):
    """A text that cannot be encoded changes nothing."""
    target = tmp_path / "report"
    target.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(target, "new \ud800")

    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    assert target.read_text() == "old"


def test_what_utf8_lacks_can_be_escaped(tmp_path):
    """A model's answer may hold half a surrogate pair; its predictions are kept all the same."""
    write_whole(tmp_path / "predictions", "\ud800", errors="backslashreplace")

    assert (tmp_path / "predictions").read_text() == "\\ud800"


def test_links_are_followed(tmp_path):
    """The file behind a link is replaced, not the link."""
    (tmp_path / "link").symlink_to("real")
    write_whole(tmp_path / "link", "text")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "text"


def test_pipes_are_written_to(tmp_path):
    """A pipe, as in `--output >(jq .)`, stays one."""
    pipe, received = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()), daemon=True)
    reader.start()
    check_writable(pipe)
    write_whole(pipe, "text")
    reader.join(5)

    assert received == ["text"]
    assert pipe.is_fifo()
