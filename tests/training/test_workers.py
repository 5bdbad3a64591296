"""Rows that are collated by other processes: an error, a death and a signal there are told, and nothing hangs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.training.crash import children_of, over
from tests.training.runs import parts, run, small
from tests.training.test_faulty_data import spec_of, table
from vlcheck.data.conversation import BadRow
from vlcheck.training.guard import SIGNALS, Guard
from vlcheck.training.watch import RunStopped
from vlcheck.training.workers import collate_there, collating_processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks a process with imported libraries")


def within(seconds: float, call: Callable[[], str]) -> str:
    """What a call in a process of its own returns, which must not take longer."""
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    process = context.Process(target=lambda: answer.put(call()))
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        pytest.fail(f"it hung for {seconds} s")
    assert process.exitcode == 0
    return answer.get()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_ends_the_run_with_the_rows_name(tmp_path, workers):
    """The same line with workers as without."""
    parts()
    (tmp_path / "data").mkdir()
    spec = spec_of(table({"image": "sound.png", "label": "<|image|>"})(tmp_path / "data"), tmp_path / "run")
    spec = replace(spec, training=replace(spec.training, dataloader_num_workers=workers))

    def call() -> str:
        try:
            run(spec)
        except BadRow as bad:
            return str(bad)
        return "trained"

    told = within(180, call)
    assert told.startswith("rows.jsonl:6: ")
    assert "Traceback" not in told


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_ends_the_run_in_one_line(tmp_path, number):
    """And the run is not taken for the one that the signal meant."""
    spec = small(tmp_path / "run", dataloader_num_workers=2, max_steps=8, gradient_accumulation_steps=1)
    parts()

    def call() -> str:
        def say(line: str) -> None:
            if line.startswith("step 2/"):
                os.kill(children_of(os.getpid())[0], number)

        try:
            run(spec, say)
        except RunStopped as stopped:
            return str(stopped)
        return "trained"

    told = within(180, call)
    assert told.startswith("a process that collates rows was killed")
    assert len(told.splitlines()) == 1
    assert run(spec).resumed_from >= 2


def test_no_process_outlives_a_killed_run(tmp_path):
    parts()
    spec = small(tmp_path / "run", dataloader_num_workers=2, max_steps=200)
    number = os.fork()
    if not number:
        run(spec)
        os._exit(0)
    while len(workers := children_of(number)) < 2:
        time.sleep(0.01)
    os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)
    end = time.monotonic() + 30
    while not all(map(over, workers)) and time.monotonic() < end:
        time.sleep(0.05)
    assert [each for each in workers if not over(each)] == []


def test_the_guard_ends_though_another_process_holds_its_descriptors():
    """A forked one does; the guard is told that the run is over, not left to notice a closed end."""
    with Guard(lambda: "", lambda line: None):
        number = os.fork()
        if not number:
            time.sleep(60)
            os._exit(0)
        ending = threading.Timer(30, os.kill, (number, signal.SIGKILL))
        ending.start()
        begun = time.monotonic()
    assert time.monotonic() - begun < 15
    ending.cancel()
    os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)


ALIKE = (signal.SIGHUP, signal.SIGQUIT)
"""Signals that the guard takes as it takes SIGTERM."""


def test_the_guard_takes_every_signal_that_ends_a_run():
    assert set(SIGNALS) == {signal.SIGTERM, signal.SIGINT, *ALIKE}


@pytest.mark.parametrize("number", [
    signal.SIGTERM, signal.SIGINT, *(pytest.param(each, marks=pytest.mark.slow) for each in ALIKE),
])  # fmt: skip
def test_every_signal_that_ends_a_run_has_its_last_step_written(tmp_path, number):
    """A closed terminal as well as a platform."""
    from vlcheck.training.checkpoint import verify

    parts()
    child = os.fork()
    if not child:
        said = []

        def say(line: str) -> None:
            said.append(line)
            if line.startswith("step 3/"):
                os.kill(os.getpid(), number)
                time.sleep(20)

        run(small(tmp_path / "run", max_steps=8, save_steps=99, gradient_accumulation_steps=1), say)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 128 + number
    assert verify(tmp_path / "run" / "checkpoint-3").step == 3


def test_a_worker_that_answers_no_more_does_not_hold_up_the_end():
    """Nothing is wanted of it; the pool would wait for it for ever."""
    pool = collating_processes(2, str)
    assert pool.submit(collate_there, 1).result() == "1"
    stopped, *_ = pool._processes.values()
    os.kill(stopped.pid, signal.SIGSTOP)
    ending = threading.Thread(target=pool.shutdown, daemon=True)
    ending.start()
    ending.join(20)
    assert not ending.is_alive()
