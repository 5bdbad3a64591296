"""Python's audit hooks, as a rehearsal uses them: what a script may not do, and what is only listed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from vlcheck.rehearsal.stage import Stage

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
DEVICES = ("/dev/null", "/dev/shm/", "/dev/tty", "/proc/self/")
NET = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn")
FIRST, SECOND, BOTH = slice(0, 1), slice(1, 2), slice(0, 2)
CHANGING: Mapping[str, slice] = {
    "os.mkdir": FIRST, "os.remove": FIRST, "os.rmdir": FIRST, "os.rename": BOTH, "os.link": BOTH, "os.symlink": SECOND,
    "os.truncate": FIRST, "os.chmod": FIRST, "os.chown": FIRST, "shutil.rmtree": FIRST, "shutil.move": BOTH,
}  # fmt: skip
"""Events that change files, and which of their arguments are the paths that change."""


def watch(stage: Stage) -> None:
    """Refuse network, other programs and writing outside the scratch folder from now on, for good.

    Native code raises no event, so it is not contained; forks are noted, and end with the rehearsal.
    """
    own = os.path.realpath(stage.scratch) + os.sep

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            _opened(stage, own, given)
        elif event in NET:
            stage.refuse(f"network: {event} {_short(given[1:] or given)}")
            raise ConnectionRefusedError(f"vlcheck dry-run: {event} is refused, a rehearsal is offline")
        elif event in PROGRAMS:
            stage.refuse(f"another program: {event} {_short(given)}")
            raise PermissionError(f"vlcheck dry-run: {event} is refused")
        elif event in CHANGING:
            for path in given[CHANGING[event]]:
                _held(stage, own, path, event)
        elif event in ("os.fork", "os.forkpty"):
            stage.refuse("a fork was let go on; it ends with the rehearsal")

    _keep_in_group(stage)
    sys.addaudithook(hook)


def _opened(stage: Stage, own: str, given: tuple[Any, ...]) -> None:
    path, mode, flags = (*given, None, None)[:3]
    writes = any(sign in mode for sign in "wax+") if isinstance(mode, str) else bool((flags or 0) & WRITING)
    if writes:
        _held(stage, own, path, "writing")


def _held(stage: Stage, own: str, path: Any, event: str) -> None:
    """Let a path be changed only inside the scratch folder.

    Raises:
        PermissionError: for any other.
    """
    if not isinstance(path, str | bytes | os.PathLike):
        return  # a descriptor that is open already
    real = os.path.realpath(os.fsdecode(path))
    if not real.startswith((own, *DEVICES)) and real + os.sep != own:
        stage.refuse(f"{event}: {real}")
        raise PermissionError(f"vlcheck dry-run: {event} {real} is refused: it is outside the rehearsal's folder")


def _keep_in_group(stage: Stage) -> None:
    """What leaves the process group would outlive the rehearsal."""

    def refused(*given: Any) -> Any:
        stage.refuse("leaving the process group")
        raise PermissionError("vlcheck dry-run: leaving the process group is refused")

    leaving: tuple[str, ...] = ("setsid", "setpgid", "setpgrp", "daemon")
    for name in leaving:
        if hasattr(os, name):
            replacement: Callable[..., Any] = refused
            setattr(os, name, replacement)


def _short(given: Any) -> str:
    return str(given)[:120]
