"""A file's lines as bytes, none longer than a limit, whatever the file holds."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

LONGEST_BYTES = 32 * 2**20
"""A line with an embedded photo takes a few MiB; longer ones are cut, so that no file fills the memory."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_lines(file: Path) -> Iterator[bytes]:
    """Yield every line without its end; one longer than `LONGEST_BYTES` is cut to one byte more than that.

    Raises:
        OSError: if the file cannot be read, or is none that ends (a pipe, a device).
    """
    if not stat.S_ISREG(file.stat().st_mode):  # asked before opening: to open a pipe is to wait for its writer
        raise OSError(0, "not a regular file")
    with file.open("rb") as stream:
        if stream.read(3) != _BYTE_ORDER_MARK:
            stream.seek(0)
        while line := stream.readline(LONGEST_BYTES + 1):
            if len(line) <= LONGEST_BYTES or line.endswith(b"\n"):
                yield line.rstrip(b"\r\n")
            else:
                while (rest := stream.readline(2**20)) and not rest.endswith(b"\n"):
                    pass
                yield line
