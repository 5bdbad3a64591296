"""Keep the last finished step when the platform ends the job.

A signal is noticed by a thread of its own, through a descriptor that the interpreter writes to at once: the main
thread may be deep inside a kernel for seconds, and a job that asks it to save has been killed by then. What is
written is the newest snapshot in host memory; the micro-batch in flight and any partial accumulation are given up.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from vlcheck.training.checkpoint import CheckpointNotWritten
from vlcheck.training.lease import LeaseLost

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT") if hasattr(signal, name))
"""What platforms, users and closed terminals end a run with."""
OVER = b"\0"
"""Told to the guard when the run is over; no signal has this number."""


class Guard:
    """While this is entered, each of `SIGNALS` publishes the newest snapshot and ends the process.

    The exit code is 128 plus the signal's number: not 0, so that platforms start the job again.

    Args:
        publish: writes the newest snapshot unless it is on disk already; returns what to say of it.
        say: one line for the log.
    """

    def __init__(self, publish: Callable[[], str], say: Callable[[str], None]) -> None:
        self._publish, self._say = publish, say
        self._here, self._there = socket.socketpair()
        self._thread = threading.Thread(target=self._watch, name="guard", daemon=True)
        self._before: dict[signal.Signals, Any] = {}
        self._wakeup = -1
        self._ending = False

    def __enter__(self) -> Guard:
        self._there.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._there.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            self._before[number] = signal.signal(number, lambda *_: None)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._ending:
            self._thread.join()  # it ends the process; what went wrong here meanwhile is of no interest any more
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._there.setblocking(True)
        self._there.send(OVER)  # not by closing it: a forked process holds it open as well
        self._thread.join()
        self._there.close()
        self._here.close()

    def _watch(self) -> None:
        told = self._here.recv(1)
        while told != OVER and told[0] not in SIGNALS:
            told = self._here.recv(1)
        if told == OVER:
            return
        self._ending = True
        number = signal.Signals(told[0])
        try:
            self._say(f"{number.name}: {self._publish()}")
        except (CheckpointNotWritten, LeaseLost) as refused:
            self._say(f"{number.name}: the last finished step could not be written: {refused}")
        finally:
            os._exit(128 + number)
