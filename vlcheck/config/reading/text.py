"""A config file's text, or one clear refusal."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from vlcheck.spec import ConfigError, Location, Problem

MAX_BYTES = 256 * 1024

# What YAML 1.2 calls printable, without the byte order mark.
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a config file as UTF-8 text.

    Raises:
        ConfigError: if it cannot be read, is no regular file, is larger than `MAX_BYTES`, or is not
            printable UTF-8.
    """
    file = os.fsdecode(path)
    text = _decode(_read_bytes(file), file)
    found = unprintable(text)
    if found is not None:
        before = text[: found.start()]
        code = f"U+{ord(found[0]):04X}"
        hint = "; the file looks like UTF-16, save it as UTF-8" if found[0] == "\0" else ""
        raise _refusal(file, f"control character {code}; allowed: printable text, tabs and line ends{hint}", before)
    return text


def unprintable(text: str) -> re.Match[str] | None:
    """Find the first character that has no place in a config."""
    return _UNPRINTABLE.search(text)


def _read_bytes(file: str) -> bytes:
    try:
        mode = Path(file).stat().st_mode
        if not stat.S_ISREG(mode):  # asked before opening: to open a pipe is to wait for its writer
            kind = _KINDS.get(stat.S_IFMT(mode), "a special file")
            raise _refusal(file, f"is {kind}; allowed: a regular file with YAML text")
        with Path(file).open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _refusal(file, "no such file; `vlcheck init` writes a commented one") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _refusal(file, f"cannot be read: {reason}") from None
    if len(raw) > MAX_BYTES:
        raise _refusal(file, f"larger than {MAX_BYTES // 1024} KiB; allowed: a config of at most {MAX_BYTES} bytes")
    return raw


def _decode(raw: bytes, file: str) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _refusal(file, "is UTF-16; allowed: UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # utf-8-sig counts from behind the mark
        skipped = 3 if raw.startswith(b"\xef\xbb\xbf") else 0
        before = raw[skipped : skipped + error.start].decode("utf-8", "replace")
        byte = error.object[error.start]
        raise _refusal(file, f"byte 0x{byte:02x} is not UTF-8; allowed: UTF-8 text", before) from None


def _refusal(file: str, message: str, before: str = "") -> ConfigError:
    lines = f"{before}^".splitlines()
    return ConfigError(Problem(Location(file, len(lines), len(lines[-1])), message))
