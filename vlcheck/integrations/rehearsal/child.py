"""The child process of a rehearsal: limits first, then the answers, then the script."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlcheck.integrations.rehearsal.stage import Stage

PR_SET_PDEATHSIG = 1
"""Of Linux's prctl."""


def main() -> None:
    """Run a script as `python SCRIPT ARGUMENTS` would, up to its first step."""
    settings = json.loads(sys.argv[1])
    _limit(settings["memory_bytes"], settings["seconds"])

    from vlcheck.integrations.rehearsal.answers import answer
    from vlcheck.integrations.rehearsal.first_rows import cut_data
    from vlcheck.integrations.rehearsal.first_step import stop_at_first_step
    from vlcheck.integrations.rehearsal.machine import stand_in
    from vlcheck.integrations.rehearsal.script import run_script
    from vlcheck.integrations.rehearsal.stage import Stage
    from vlcheck.integrations.rehearsal.watch import watch

    stage = Stage(
        Path(settings["script"]), settings["shown"], Path(settings["scratch"]), settings["rows"], settings["options"]
    )
    for prepare in (stand_in, answer, cut_data, stop_at_first_step, watch):
        prepare(stage)
    sys.argv[:] = [settings["script"], *settings["arguments"]]
    sys.path.insert(0, str(stage.script.parent))
    told = "the script ended before its first step"
    try:
        run_script(stage)
    except BaseException as error:  # whatever a script raises, its own end included
        told = _told(error, stage)
        sys.stderr.write(traceback.format_exc())
    failure = told
    stage.end(lambda: {"failure": failure})


def _told(error: BaseException, stage: Stage) -> str:
    """How a script ended, in a line."""
    if type(error).__name__ == "SystemExit":
        return f"the script ended with sys.exit({getattr(error, 'code', None)!r}) before its first step"
    return stage.told(error)


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
