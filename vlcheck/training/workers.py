"""Processes that collate rows beside the model, and that never outlive the run or end it by a signal of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any

LOOK_SECONDS = 1.0
"""How often a worker looks whether its run is still there."""
_WORK: dict[str, Callable[[Any], Any]] = {}
"""Of a worker process: what it does with the places that it is sent. Empty in every other process."""


def collating_processes(workers: int, collate: Callable[[Any], Any]) -> Executor:
    """Processes that run `collate` on what is sent to `collate_there`.

    An error there is raised here as it is; a process that is killed breaks the pool at once.
    """
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    return _Workers(workers, context, _begin, (collate, os.getpid()))


class _Workers(ProcessPoolExecutor):
    """Processes of which nothing is wanted any more once they are shut down.

    They are killed then, not asked to end: one that was killed before may hold the lock that the others ask with, and
    the pool would wait for them for ever.
    """

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        processes: list[Any] = list((self._processes or {}).values())
        manager: threading.Thread | None = self._executor_manager_thread  # type: ignore[assignment]
        super().shutdown(wait=False, cancel_futures=cancel_futures)
        for process in processes:
            process.kill()
        if wait and manager is not None:
            manager.join()


def collate_there(places: Any) -> Any:
    """Run in a worker: collate the rows at these places."""
    return _WORK["collate"](places)


def _begin(collate: Callable[[Any], Any], parent: int) -> None:
    """Run in a worker before all else.

    A forked worker inherits the run's guard: what a signal writes there would end the run. Ctrl-C, and a closed
    terminal, reach every process of the run; the run itself decides what becomes of its workers.
    """
    import torch

    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for name in ("SIGINT", "SIGHUP", "SIGQUIT"):
        if number := getattr(signal, name, None):
            signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    _WORK["collate"] = collate


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)
