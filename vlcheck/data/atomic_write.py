"""Files that are either written whole or left as they were."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path


def check_writable(path: Path) -> None:
    """Find out early that a file could not be written, without touching it.

    Raises:
        OSError: if `path` is a folder, its folder is missing, or either does not let us write.
    """
    target = path.resolve()
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(path.parent))
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "is not writable", str(path))
    if not _special(target):
        try:
            tempfile.TemporaryFile(dir=target.parent).close()
        except OSError as refused:
            raise PermissionError(errno.EACCES, "its folder is not writable", str(path)) from refused


def write_whole(path: Path, text: str, *, errors: str = "strict") -> None:
    """Write a file as UTF-8 so that a reader sees the old content or the new, never half of it.

    A link is followed; a pipe or device, which cannot be replaced, is written to.

    Args:
        errors: what becomes of text that UTF-8 lacks, as for `open`.

    Raises:
        OSError: if the file cannot be written; the old one is then as it was.
        UnicodeEncodeError: for text that UTF-8 lacks, where `errors` is strict.
    """
    target = path.resolve()
    if _special(target):
        target.write_text(text, encoding="utf-8", errors=errors)
        return
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        draft.write_text(text, encoding="utf-8", errors=errors, newline="\n")
        if target.exists():
            shutil.copymode(target, draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _special(target: Path) -> bool:
    return target.exists() and not target.is_file()
