"""The child process of a rehearsal: limits first, then the answers, then the script."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import runpy
import signal
import sys
import traceback
from pathlib import Path

PR_SET_PDEATHSIG = 1
"""Of Linux's prctl."""


def main() -> None:
    """Run a script as `python SCRIPT ARGUMENTS` would, up to its first step."""
    settings = json.loads(sys.argv[1])
    _limit(settings["memory_bytes"], settings["seconds"])

    from vlcheck.rehearsal.answers import answer
    from vlcheck.rehearsal.first_step import stop_at_first_step
    from vlcheck.rehearsal.machine import stand_in
    from vlcheck.rehearsal.stage import Stage
    from vlcheck.rehearsal.watch import watch

    stage = Stage(
        Path(settings["script"]), settings["shown"], Path(settings["scratch"]), settings["rows"], settings["options"]
    )
    for prepare in (stand_in, answer, stop_at_first_step, watch):
        prepare(stage)
    sys.argv[:] = [settings["script"], *settings["arguments"]]
    sys.path.insert(0, str(stage.script.parent))
    told = "the script ended before its first step"
    try:
        runpy.run_path(str(stage.script), run_name="__main__")
    except BaseException as error:  # whatever a script raises, its own end included
        told = _told(error, stage.script)
        sys.stderr.write(traceback.format_exc())
    failure = told
    stage.end(lambda: {"failure": failure})


def _told(error: BaseException, script: Path) -> str:
    """How a script ended, in a line."""
    kind = type(error).__name__
    if kind == "SystemExit":
        return f"the script ended with sys.exit({getattr(error, 'code', None)!r}) before its first step"
    frames = traceback.extract_tb(error.__traceback__)
    line = next((frame.lineno for frame in reversed(frames) if frame.filename == str(script)), 1)
    if isinstance(error, ModuleNotFoundError):
        return f"{script.name}:{line}: the script needs {error.name}, which is not installed here"
    return f"{script.name}:{line}: {kind}: {' '.join(str(error).split())[:600]}"


def _limit(memory_bytes: int, seconds: int) -> None:
    """Memory of this process, its seconds on the CPU, no core file, an end with its parent."""
    for kind, most in ((resource.RLIMIT_DATA, memory_bytes), (resource.RLIMIT_CPU, seconds * (os.cpu_count() or 1))):
        hard = resource.getrlimit(kind)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (bound, bound))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a parent that is killed takes it along


if __name__ == "__main__":
    main()
