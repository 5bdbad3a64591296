"""Kill a training run at chosen moments, over and over, and see whether it can always be taken up again.

    python -m tests.training.crash --log crash.jsonl --jobs 16         every kind, as often as `COUNTS` says
    python -m tests.training.crash --log crash.jsonl --kill 3 --full 0 as often as it is told instead
    python -m tests.training.crash --log crash.jsonl --only pair       one kind

Each trial is a JSON line. Those that stand in the log are not done again, so that the same command goes on where it was
ended; it ends with 1 if a trial failed. It needs Linux, fork, and for `full` the right to mount a small disk: without
that right such trials are logged as skipped.

kill: kill -9 through a fork server; terminate: SIGTERM through it; command: kill -9 of the real command; pair: two runs
on one folder; worker: a process that collates is killed; full: the disk fills up; evaluation: kill -9 and SIGTERM in
the middle of evaluations.

The fork server imports once and builds nothing; each trial is a child of its own that builds the model, trains and
dies, and a second child that takes the run up. Three kinds of death: `time`, at a random moment of the run;
`call`, at a chosen file-system call of the run, by an audit hook of the interpreter, so that every phase of every
write is hit; `write`, a random few hundred microseconds after a checkpoint's file was opened, so that files are
torn in their middle.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import torch

from vlcheck.training.checkpoint import CheckpointNotWritten, verify
from vlcheck.training.lease import FolderTaken
from vlcheck.training.manifest import BrokenCheckpoint
from vlcheck.training.ours import folders
from vlcheck.training.record import METRICS, read_metrics
from vlcheck.training.watch import RunStopped

STEPS, EVERY = 12, 2
TAKEN, STOPPED = 3, 4
"""Exit codes of a child that another one kept out of its folder, and of one that stopped for a reason it told."""
DISK_BYTES = 8 * 2**20
Whole: TypeAlias = tuple[str, float, int, int]
"""An uninterrupted run: its adapter's digest, its seconds, its file-system calls, those of them in checkpoints."""


def digest(folder: Path) -> str:
    """SHA-256 of the adapter that a run left."""
    return hashlib.sha256((folder / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest()


def last_step(folder: Path) -> int:
    """The last step that was recorded."""
    return max((values["step"] for values in read_metrics(folder)), default=0) if (folder / METRICS).exists() else 0


def whole_steps(folder: Path) -> list[int]:
    """Steps whose checkpoint verifies."""
    found = []
    for each in folders(folder):
        with contextlib.suppress(BrokenCheckpoint):
            found.append(verify(each).step)
    return found


def resumed_from(folder: Path) -> int:
    """The step that the last process began at; 0 where it began anew."""
    events = [json.loads(line) for line in (folder / METRICS).read_text().splitlines() if line.endswith("}")]
    return next((event["after"] for event in reversed(events) if event.get("event") == "resumed"), 0)


# --------------------------------------------------------------------------- children


def child(folder: Path, before: Callable[[], None] = lambda: None, *, steps: int = STEPS, **training: Any) -> int:
    """Fork a process that trains into a folder; returns its number.

    Args:
        steps: optimizer steps of it.
        training: other settings of it; `eval_rows`: rows of the evaluation split.
    """
    number = os.fork()
    if number:
        return number
    try:
        with (folder.parent / f"{folder.name}.log").open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            from tests.training.runs import run, small

            before()
            rows = training.pop("eval_rows", None)
            settings = {
                "gradient_accumulation_steps": 1, "max_steps": steps, "save_steps": EVERY, "save_total_limit": 2,
                **training,
            }  # fmt: skip
            spec = small(folder, **settings)
            spec = replace(spec, data=replace(spec.data, eval_samples=rows))
            run(spec, lambda line: print(line, flush=True))
        os._exit(0)
    except FolderTaken:
        os._exit(TAKEN)
    except (RunStopped, CheckpointNotWritten):
        os._exit(STOPPED)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def command(folder: Path, *arguments: str) -> int:
    """Fork a process that runs the command in a folder, what it says into command.log there; returns its number."""
    number = os.fork()
    if number:
        return number
    try:
        from vlcheck.cli.app import main

        with (folder / "command.log").open("w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115  a descriptor has no path
        os.chdir(folder)
        sys.argv = ["vlcheck", *arguments]
        main()
    except SystemExit as over:
        os._exit(over.code if isinstance(over.code, int) else 1)
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def ended(number: int) -> int:
    """Wait for a child; its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def hook(folder: Path, act: Callable[[str, str], None]) -> Callable[[], None]:
    """Call `act` at each file-system call of the interpreter below a folder."""
    root = str(folder)

    def on_event(event: str, arguments: tuple[Any, ...]) -> None:
        watched = event in ("open", "os.mkdir", "os.remove", "os.rmdir", "os.listdir", "os.scandir", "os.chmod")
        if watched and arguments and str(arguments[0]).startswith(root):
            act(event, str(arguments[0]))

    return lambda: sys.addaudithook(on_event)


def die() -> None:
    """As kill -9 from outside: nothing is flushed, nothing is closed."""
    os.kill(os.getpid(), signal.SIGKILL)


def at_call(folder: Path, number: int) -> Callable[[], None]:
    """Die at the n-th file-system call."""
    seen = [0]

    def act(event: str, path: str) -> None:
        seen[0] += 1
        if seen[0] == number:
            die()

    return hook(folder, act)


def in_write(folder: Path, number: int, seconds: float) -> Callable[[], None]:
    """Die some time after the n-th file of a checkpoint was touched."""
    seen = [0]

    def act(event: str, path: str) -> None:
        if event in ("os.mkdir", "open", "os.chmod") and "/checkpoint-" in path:
            seen[0] += 1
            if seen[0] == number:
                threading.Timer(seconds, die).start()

    return hook(folder, act)


# --------------------------------------------------------------------------- trials


def measured(root: Path, steps: int = STEPS, **training: Any) -> Whole:
    """An uninterrupted run: its adapter, its seconds, its file-system calls and those in checkpoints."""
    calls = root / "calls"
    folder = root / "whole"

    def act(event: str, path: str) -> None:
        with calls.open("a") as file:
            file.write(f"{event} {path}\n")

    start = time.perf_counter()
    assert ended(child(folder, hook(folder, act), steps=steps, **training)) == 0, (root / "whole.log").read_text()
    seconds = time.perf_counter() - start
    lines = calls.read_text().splitlines()
    return digest(folder), seconds, len(lines), sum("/checkpoint-" in line for line in lines)


def trial(root: Path, kind: str, dice: random.Random, whole: Whole, share: float, steps: int = STEPS) -> dict[str, Any]:
    """Kill a run, take it up, hold the outcome against the uninterrupted one.

    Args:
        share: where in the run to kill, 0 to 1.
    """
    wanted, seconds, calls, writes = whole
    folder = root / "run"
    if kind == "time":
        number = child(folder, steps=steps)
        time.sleep(share * seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    elif kind == "call":
        number = child(folder, at_call(folder, 1 + int(share * calls)), steps=steps)
    else:
        number = child(folder, in_write(folder, 1 + int(share * writes), dice.uniform(0, 0.004)), steps=steps)
    code = ended(number)
    recorded, durable = last_step(folder), whole_steps(folder)
    leftovers = [each.name for each in folders(folder) if not (each / "manifest.json").exists()]
    again = ended(child(folder, steps=steps))
    usable = again == 0 and digest(folder) == wanted
    resumed = resumed_from(folder) if folder.exists() and (folder / METRICS).exists() else 0
    found = {
        "kind": kind, "share": round(share, 4), "killed": code == -signal.SIGKILL, "recorded": recorded,
        "durable": durable, "torn": leftovers, "resumed_from": resumed,
        "lost": max(0, recorded - max(durable, default=0)), "usable": again == 0, "identical": usable,
    }  # fmt: skip
    if not usable:
        found["log"] = (root / "run.log").read_text()[-2000:]
    _clear(root)
    return found


def terminated(root: Path, whole: Whole, share: float, steps: int = STEPS) -> dict[str, Any]:
    """SIGTERM a run, see how long it takes to be durable, take it up."""
    wanted, seconds, *_ = whole
    folder = root / "run"
    number = child(folder, steps=steps)
    while not last_step(folder):  # before the first step nothing is at stake, and nothing listens yet
        time.sleep(0.01)
    time.sleep(share * seconds * 0.6)
    start = time.perf_counter()
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, signal.SIGTERM)
    code = ended(number)
    took = time.perf_counter() - start
    recorded, durable = last_step(folder), whole_steps(folder)
    again = ended(child(folder, steps=steps))
    identical = again == 0 and digest(folder) == wanted
    found = {
        "kind": "terminate", "share": round(share, 4), "code": code, "seconds": round(took, 3), "recorded": recorded,
        "durable": durable, "lost": max(0, recorded - max(durable, default=0)), "usable": again == 0,
        "identical": identical,
    }  # fmt: skip
    _clear(root)
    return found


def paired(root: Path, whole: Whole, offset: float, *, kill: float | None = None, steps: int = STEPS) -> dict[str, Any]:
    """Start two runs on one folder, one some seconds after the other; hold what they leave against one run's.

    Args:
        kill: seconds after its start at which the first is killed.
    """
    wanted, *_ = whole
    folder = root / "run"
    first = child(folder, steps=steps)
    begun = time.perf_counter()
    if kill is not None:
        threading.Timer(kill, lambda: os.kill(first, signal.SIGKILL)).start()
    time.sleep(offset)
    second = child(folder, steps=steps)
    codes = [ended(first), ended(second)]
    alive = folder.exists() and (folder / "adapter").exists()
    if not alive and kill is not None:  # the second was refused by the first, which was killed later
        codes.append(ended(child(folder, steps=steps)))
    usable = {*codes} <= {0, TAKEN, -signal.SIGKILL} and 0 in codes and verify(folder / "adapter").step == steps
    lines = (folder / METRICS).read_text().splitlines()
    events = [json.loads(line) for line in lines if line]
    recorded = [event["step"] for event in events if "loss" in event]
    after = [event["after"] for event in events if event.get("event") == "resumed"]
    mixed = not kill and (recorded != list(range(1, steps + 1)) or after != [])
    found = {
        "kind": "pair", "offset": round(offset, 4), "kill": kill, "codes": codes, "lost": 0, "mixed": mixed,
        "seconds": round(time.perf_counter() - begun, 2), "usable": usable and not mixed,
        "identical": usable and digest(folder) == wanted,
    }  # fmt: skip
    if not found["usable"]:
        found["log"] = (root / "run.log").read_text()[-2000:]
    _clear(root)
    return found


def workerless(root: Path, number: int, count: int, dice: random.Random, whole: Whole, steps: int) -> dict[str, Any]:
    """Kill one of a run's worker processes; the run must end, or be over already, and be taken up."""
    wanted, seconds, *_ = whole
    folder = root / "run"
    runs = child(folder, dataloader_num_workers=2, steps=steps)
    begun = time.perf_counter()
    delay, kind = dice.uniform(0, 0.8 * seconds), dice.choice((signal.SIGKILL, signal.SIGTERM))
    while not (workers := children_of(runs)) and not over(runs):
        time.sleep(0.005)
    time.sleep(delay)
    if workers := children_of(runs):
        with contextlib.suppress(ProcessLookupError):
            os.kill(dice.choice(workers), kind)
    code = ended(runs)
    said, left = (root / "run.log").read_text(), [each for each in workers if over(each) is False]
    recorded, durable = last_step(folder), whole_steps(folder)
    again = ended(child(folder, dataloader_num_workers=2, steps=steps))
    found = {
        "kind": "worker", "signal": kind.name, "killed": bool(workers), "code": code, "recorded": recorded,
        "durable": durable, "lost": max(0, recorded - max(durable, default=0)) if code else 0, "left": left,
        "seconds": round(time.perf_counter() - begun, 2), "usable": code in (0, STOPPED) and again == 0 and not left,
        "identical": again == 0 and digest(folder) == wanted,
    }  # fmt: skip
    if not found["usable"]:
        found["log"] = said[-2000:]
    _clear(root)
    return found


def children_of(number: int) -> list[int]:
    """A process's children; none where it is over."""
    with contextlib.suppress(OSError):
        return [int(each) for each in Path(f"/proc/{number}/task/{number}/children").read_text().split()]
    return []


def over(number: int) -> bool:
    """Whether a process is gone, or only waited for."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except OSError:
        return True


def filled(root: Path, number: int, count: int, dice: random.Random, whole: Whole, steps: int) -> dict[str, Any]:
    """Have the disk fill up at a random moment, to a random rest; then make room and take the run up."""
    wanted, seconds, *_ = whole
    folder = root / "run"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(folder)]
    if (refused := subprocess.run(mount, capture_output=True, text=True, check=False)).returncode:
        _clear(root)
        return {"kind": "full", "skipped": refused.stderr.strip(), "lost": 0, "usable": True, "identical": True}
    try:
        runs = child(folder, steps=steps)
        share, rest = dice.random(), dice.randrange(0, 400_000)
        time.sleep(share * seconds)
        filler = folder / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while (free := shutil.disk_usage(folder).free) > rest:
                file.write(b"\0" * min(2**16, free - rest))
        code = ended(runs)
        said = (root / "run.log").read_text()
        recorded, durable = last_step(folder), whole_steps(folder)
        filler.unlink()
        again = ended(child(folder, steps=steps))
        found = {
            "kind": "full", "share": round(share, 4), "rest": rest, "code": code, "recorded": recorded,
            "durable": durable, "lost": 0, "refused": said.count("not written"),
            "usable": code in (0, STOPPED) and again == 0, "identical": again == 0 and digest(folder) == wanted,
        }  # fmt: skip
        if not found["usable"]:
            found["log"] = (root / "run.log").read_text()[-3000:]
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    _clear(root)
    return found


def command_measured(root: Path) -> Whole:
    """An uninterrupted run of the real command: its adapter, and about the seconds that it trains."""
    command = _command(root)
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    found = digest(root / "run"), (time.perf_counter() - start) / 2, 0, 0
    _clear(root)
    return found


def commanded(root: Path, number: int, count: int, dice: random.Random, whole: Whole, steps: int) -> dict[str, Any]:
    """Kill the real command with -9 at a random moment of its training, and start it again."""
    folder, command = root / "run", _command(root)
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    share = dice.random()
    while running.poll() is None and not (folder / METRICS).exists():
        time.sleep(0.02)
    with contextlib.suppress(subprocess.TimeoutExpired):
        running.wait(share * whole[1])
    running.kill()
    code = running.wait()
    recorded, durable = last_step(folder), whole_steps(folder)
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    found = {
        "kind": "command", "share": round(share, 4), "killed": code == -signal.SIGKILL, "recorded": recorded,
        "durable": durable, "lost": max(0, recorded - max(durable, default=0)), "usable": again.returncode == 0,
        "identical": again.returncode == 0 and digest(folder) == whole[0],
    }  # fmt: skip
    if again.returncode:
        found["log"] = again.stdout[-1000:] + again.stderr[-1000:]
    _clear(root)
    return found


def _command(root: Path) -> list[str]:
    _write_config(root / "run.yaml", root / "run")
    return [sys.executable, "-m", "vlcheck", "train", str(root / "run.yaml"), "--offline"]


def _write_config(config: Path, folder: Path) -> None:
    from importlib.resources import files

    text = (files("vlcheck") / "recipes" / "tiny.yaml").read_text("utf-8")
    for old, new in (
        ("output_dir: tiny-shapes", f"output_dir: {folder}"),
        ("max_steps: 60", f"max_steps: {STEPS}"),
        ("per_device_train_batch_size: 4", "per_device_train_batch_size: 1"),
        ("save_steps: 20", f"save_steps: {EVERY}"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    config.write_text(text)


def _clear(root: Path) -> None:
    shutil.rmtree(root / "run", ignore_errors=True)
    (root / "run.log").unlink(missing_ok=True)


def killed(root: Path, number: int, count: int, dice: random.Random, whole: Whole, steps: int) -> dict[str, Any]:
    """A third of each kind, spread evenly over the run with a little chance."""
    share = ((number // 3) + dice.random()) / -(-count // 3)
    return trial(root, ("time", "call", "write")[number % 3], dice, whole, min(share, 0.9999), steps)


def ended_by_signal(
    root: Path, number: int, count: int, dice: random.Random, whole: Whole, steps: int
) -> dict[str, Any]:
    """SIGTERM, spread evenly over the run."""
    return terminated(root, whole, number / count, steps)


def two_at_once(root: Path, number: int, count: int, dice: random.Random, whole: Whole, steps: int) -> dict[str, Any]:
    """Two runs on one folder: nearly at once, anywhere in the first's life, and with the first killed."""
    seconds = whole[1]
    offset = dice.uniform(0, 0.05 if number % 3 == 0 else 1.1 * seconds)
    return paired(root, whole, offset, kill=dice.uniform(0.1, seconds) if number % 3 == 2 else None, steps=steps)


EVALUATED: dict[str, Any] = {
    "eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True, "eval_rows": 2,
    "per_device_eval_batch_size": 1,
}  # fmt: skip


def in_evaluation(number: int, kind: signal.Signals) -> Callable[[], None]:
    """Die at the n-th forward pass of evaluations."""

    def before() -> None:
        from vlcheck.training import evaluation

        real, seen = evaluation.forward_loss, [0]

        def counting(*given: Any, **named: Any) -> Any:
            seen[0] += 1
            if seen[0] == number:
                os.kill(os.getpid(), kind)
                time.sleep(0.2 if kind == signal.SIGTERM else 0)
            return real(*given, **named)

        evaluation.forward_loss = counting

    return before


def in_the_middle_of_evaluating(
    root: Path, number: int, count: int, dice: random.Random, whole: Whole, steps: int
) -> dict[str, Any]:
    """A run that publishes its best adapter, killed or terminated at a forward pass of its evaluations."""
    folder, passes = root / "run", 2 * steps
    at = 2 + number * (passes - 1) // count if count > 1 else passes // 2
    kind = (signal.SIGKILL, signal.SIGTERM)[number % 2]
    code = ended(child(folder, in_evaluation(at, kind), steps=steps, **EVALUATED))
    recorded, durable = last_step(folder), whole_steps(folder)
    again = ended(child(folder, steps=steps, **EVALUATED))
    found = {
        "kind": "evaluation", "at": at, "code": code, "killed": code in {-signal.SIGKILL, 128 + signal.SIGTERM},
        "recorded": recorded, "durable": durable, "lost": max(0, recorded - max(durable, default=0)),
        "usable": again == 0, "identical": again == 0 and digest(folder) == whole[0],
    }  # fmt: skip
    if not found["usable"]:
        found["log"] = (root / "run.log").read_text()[-2000:]
    _clear(root)
    return found


# --------------------------------------------------------------------------- many of them


TRIALS: dict[str, Callable[[Path, int, int, random.Random, Whole, int], dict[str, Any]]] = {
    "kill": killed,
    "terminate": ended_by_signal,
    "command": commanded,
    "pair": two_at_once,
    "worker": workerless,
    "full": filled,
    "evaluation": in_the_middle_of_evaluating,
}
COUNTS = {"command": 50, "kill": 180, "terminate": 50, "pair": 50, "worker": 20, "full": 20, "evaluation": 30}
"""How often by default, the longest first."""
PATIENCE_SECONDS = 300
"""Of one trial; longer, and it hangs."""


def measured_for(kind: str, root: Path, steps: int) -> Whole:
    """An uninterrupted run to hold trials of a kind against."""
    if kind == "command":
        return command_measured(root)
    return measured(root, steps, **(EVALUATED if kind == "evaluation" else {}))


def trials(
    kind: str, root: Path, count: int, seed: int = 0, *, whole: Whole | None = None, steps: int = STEPS
) -> Iterator[dict[str, Any]]:
    """Trials of one kind, one after the other.

    Args:
        root: an empty folder.
        whole: an uninterrupted run of as many steps; measured where it is not given.
    """
    from tests.training.runs import parts

    parts()  # once, before any fork
    whole = whole or measured_for(kind, root, steps)
    for number in range(count):
        yield TRIALS[kind](root, number, count, random.Random(f"{seed} {kind} {number}"), whole, steps)


def work(root: Path, log: Path, claims: Path, counts: Mapping[str, int], seed: int) -> None:
    """Take trials that nobody has taken, until none is left."""
    wholes: dict[str, Whole] = {}
    for kind, count in counts.items():
        for number in range(count):
            try:
                (claims / f"{kind}-{number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            place = root / kind
            place.mkdir(parents=True, exist_ok=True)
            signal.alarm(PATIENCE_SECONDS)
            try:
                key = kind if kind in ("command", "evaluation") else "plain"
                if key not in wholes:
                    wholes[key] = measured_for(kind, place, STEPS)
                dice = random.Random(f"{seed} {kind} {number}")
                found = TRIALS[kind](place, number, count, dice, wholes[key], STEPS)
            except Exception:  # the suite tells of it and goes on
                found = {"kind": kind, "lost": 0, "usable": False, "identical": False, "log": traceback.format_exc()}
            signal.alarm(0)
            line = json.dumps({"trial": f"{kind}-{number}", **found}) + "\n"
            with log.open("ab", buffering=0) as file:  # whole lines, whoever else writes
                file.write(line.encode())
            if "TimeoutError" in found.get("log", ""):
                os.killpg(0, signal.SIGKILL)  # with what hangs; the next start takes the rest


def hung(*_: object) -> None:
    """Raised out of whatever is waited for."""
    raise TimeoutError(f"a trial took more than {PATIENCE_SECONDS} s")


def main() -> None:
    """Run trials in several processes and log each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind, count in COUNTS.items():
        parser.add_argument(f"--{kind}", type=int, default=count, metavar="TRIALS")
    parser.add_argument("--only", choices=list(COUNTS), help="this kind alone")
    parser.add_argument("--jobs", type=int, default=1, help="processes that try at a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, required=True)
    asked = parser.parse_args()
    counts = {kind: getattr(asked, kind) for kind in COUNTS if asked.only in (None, kind)}
    done = logged(asked.log)
    from tests.training.runs import parts

    torch.set_num_threads(1)
    parts()  # once, before any fork
    with tempfile.TemporaryDirectory(prefix="vlcheck-crash-") as scratch:
        claims = Path(scratch) / "claims"
        claims.mkdir()
        for name in done:
            (claims / name).touch()
        jobs = [_forked(Path(scratch) / str(job), asked.log.absolute(), claims, counts, asked.seed)
                for job in range(asked.jobs)]  # fmt: skip
        broken = [code for code in map(ended, jobs) if code]
    lines = [logged(asked.log)[name] for kind, count in counts.items() for name in
             (f"{kind}-{number}" for number in range(count)) if name in logged(asked.log)]  # fmt: skip
    for line in told(lines):
        print(line)
    wanted = sum(counts.values())
    if broken or len(lines) < wanted or not all(line["usable"] and line["identical"] for line in lines):
        print(f"FAILED: {len(lines)} of {wanted} trials done, processes ended with {broken or 0}")
        raise SystemExit(1)


def _forked(root: Path, log: Path, claims: Path, counts: Mapping[str, int], seed: int) -> int:
    if number := os.fork():
        return number
    os.setpgrp()
    signal.signal(signal.SIGALRM, hung)
    try:
        work(root, log, claims, counts, seed)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def logged(log: Path) -> dict[str, dict[str, Any]]:
    """Trials of a log by name; a line that was cut off is none."""
    found = {}
    for line in log.read_text("utf-8").splitlines() if log.exists() else ():
        with contextlib.suppress(ValueError):
            values = json.loads(line)
            found[values["trial"]] = values
    return found


def told(lines: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What came of trials, a line a kind."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        groups.setdefault(line["trial"].rpartition("-")[0], []).append(line)
    for kind, group in groups.items():
        skipped = sum("skipped" in line for line in group)
        yield (
            f"{kind:<10} {len(group):>4} trials, {skipped} skipped; taken up {sum(line['usable'] for line in group)}, "
            f"as uninterrupted {sum(line['identical'] for line in group)}, most steps lost "
            f"{max(line['lost'] for line in group)}"
        )


if __name__ == "__main__":
    main()
