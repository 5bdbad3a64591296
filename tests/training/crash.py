"""Kill a training run at chosen moments, over and over, and see whether it can always be taken up again.

    python -m tests.training.crash --trials 180 --log crash.jsonl      kill -9 through a fork server
    python -m tests.training.crash --command 20 --log crash.jsonl      kill -9 of the real command
    python -m tests.training.crash --terminate 50 --log crash.jsonl    SIGTERM through the fork server
    python -m tests.training.crash --pairs 50 --log crash.jsonl        two runs on one folder
    python -m tests.training.crash --workers 20 --log crash.jsonl      a process that collates is killed
    python -m tests.training.crash --evaluation 30 --log crash.jsonl   kill -9 and SIGTERM in evaluations
    python -m tests.training.crash --full 20 --log crash.jsonl         the disk fills up (root only: mounts one)

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
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

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
Trials: TypeAlias = Iterator[dict[str, Any]]


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
        import traceback

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
        import traceback

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


def measured(root: Path, steps: int = STEPS) -> Whole:
    """An uninterrupted run: its adapter, its seconds, its file-system calls and those in checkpoints."""
    calls = root / "calls"
    folder = root / "whole"

    def act(event: str, path: str) -> None:
        with calls.open("a") as file:
            file.write(f"{event} {path}\n")

    start = time.perf_counter()
    assert ended(child(folder, hook(folder, act), steps=steps)) == 0, (root / "whole.log").read_text()
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


def workerless(root: Path, dice: random.Random, whole: Whole, steps: int = STEPS) -> dict[str, Any]:
    """Kill one of a run's worker processes; the run must end, or be over already, and be taken up."""
    wanted, seconds, *_ = whole
    folder = root / "run"
    number = child(folder, dataloader_num_workers=2, steps=steps)
    begun = time.perf_counter()
    delay, kind = dice.uniform(0, 0.8 * seconds), dice.choice((signal.SIGKILL, signal.SIGTERM))
    while not (workers := children_of(number)) and not over(number):
        time.sleep(0.005)
    time.sleep(delay)
    if workers := children_of(number):
        with contextlib.suppress(ProcessLookupError):
            os.kill(dice.choice(workers), kind)
    code = ended(number)
    told, left = (root / "run.log").read_text(), [each for each in workers if over(each) is False]
    recorded, durable = last_step(folder), whole_steps(folder)
    again = ended(child(folder, dataloader_num_workers=2, steps=steps))
    found = {
        "kind": "worker", "signal": kind.name, "killed": bool(workers), "code": code, "recorded": recorded,
        "durable": durable, "lost": max(0, recorded - max(durable, default=0)) if code else 0, "left": left,
        "seconds": round(time.perf_counter() - begun, 2), "usable": code in (0, STOPPED) and again == 0 and not left,
        "identical": again == 0 and digest(folder) == wanted,
    }  # fmt: skip
    if not found["usable"]:
        found["log"] = told[-2000:]
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


def filled(root: Path, dice: random.Random, whole: Whole, steps: int = STEPS) -> dict[str, Any]:
    """Have the disk fill up at a random moment, to a random rest; then make room and take the run up."""
    wanted, seconds, *_ = whole
    folder = root / "run"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(folder)], check=True)
    try:
        number = child(folder, steps=steps)
        share, rest = dice.random(), dice.randrange(0, 400_000)
        time.sleep(share * seconds)
        filler = folder / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while (free := shutil.disk_usage(folder).free) > rest:
                file.write(b"\0" * min(2**16, free - rest))
        code = ended(number)
        told = (root / "run.log").read_text()
        recorded, durable = last_step(folder), whole_steps(folder)
        filler.unlink()
        again = ended(child(folder, steps=steps))
        found = {
            "kind": "full", "share": round(share, 4), "rest": rest, "code": code, "recorded": recorded,
            "durable": durable, "lost": 0, "refused": told.count("not written"),
            "usable": code in (0, STOPPED) and again == 0, "identical": again == 0 and digest(folder) == wanted,
        }  # fmt: skip
        if not found["usable"]:
            found["log"] = (root / "run.log").read_text()[-3000:]
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    _clear(root)
    return found


def commanded(root: Path, dice: random.Random, whole: tuple[str, float] | None) -> dict[str, Any]:
    """Kill the real command with -9 and start it again."""
    folder, config = root / "run", root / "run.yaml"
    _write_config(config, folder)
    command = [sys.executable, "-m", "vlcheck", "train", str(config), "--offline"]
    if whole is None:
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        found: dict[str, Any] = {"digest": digest(folder), "seconds": time.perf_counter() - start}
        _clear(root)
        return found
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


def kill_trials(root: Path, count: int, seed: int = 0, *, whole: Whole | None = None, steps: int = STEPS) -> Trials:
    """A third of each kind, spread evenly over the run with a little chance."""
    from tests.training.runs import parts, read_training_rows, small  # noqa: F401  imported once, before any fork

    parts()
    whole, dice = whole or measured(root, steps), random.Random(seed)
    kinds = ("time", "call", "write")
    for number in range(count):
        share = ((number // 3) + dice.random()) / -(-count // 3)
        yield trial(root, kinds[number % 3], dice, whole, min(share, 0.9999), steps)


def terminate_trials(root: Path, count: int, *, whole: Whole | None = None, steps: int = STEPS) -> Trials:
    """SIGTERM, spread evenly over the run."""
    from tests.training.runs import parts

    parts()
    whole = whole or measured(root, steps)
    for number in range(count):
        yield terminated(root, whole, number / count, steps)


def pair_trials(root: Path, count: int, seed: int = 0, *, whole: Whole | None = None, steps: int = STEPS) -> Trials:
    """Two runs on one folder: nearly at once, anywhere in the first's life, and with the first killed."""
    from tests.training.runs import parts

    parts()
    whole, dice = whole or measured(root, steps), random.Random(seed)
    for number in range(count):
        seconds = whole[1]
        offset = dice.uniform(0, 0.05 if number % 3 == 0 else 1.1 * seconds)
        yield paired(root, whole, offset, kill=dice.uniform(0.1, seconds) if number % 3 == 2 else None, steps=steps)


def worker_trials(root: Path, count: int, seed: int = 0, *, whole: Whole | None = None, steps: int = STEPS) -> Trials:
    """A process that collates is killed, at random moments and by several signals."""
    from tests.training.runs import parts

    parts()
    whole, dice = whole or measured(root, steps), random.Random(seed)
    for _ in range(count):
        yield workerless(root, dice, whole, steps)


def full_trials(root: Path, count: int, seed: int = 0, *, whole: Whole | None = None, steps: int = STEPS) -> Trials:
    """The disk fills up at random moments."""
    from tests.training.runs import parts

    parts()
    whole, dice = whole or measured(root, steps), random.Random(seed)
    for _ in range(count):
        yield filled(root, dice, whole, steps)


EVALUATED = {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True}


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


def evaluation_trials(root: Path, count: int, *, steps: int = STEPS) -> Trials:
    """A run that publishes its best adapter, killed or terminated in the middle of evaluations."""
    from tests.training.runs import parts

    parts()
    folder, settings = root / "run", {**EVALUATED, "eval_rows": 2, "per_device_eval_batch_size": 1}
    assert ended(child(root / "whole", steps=steps, **settings)) == 0, (root / "whole.log").read_text()
    wanted, passes = digest(root / "whole"), 2 * steps
    for number in range(count):
        at = 2 + number * (passes - 1) // count if count > 1 else passes // 2
        kind = (signal.SIGKILL, signal.SIGTERM)[number % 2]
        code = ended(child(folder, in_evaluation(at, kind), steps=steps, **settings))
        recorded, durable = last_step(folder), whole_steps(folder)
        again = ended(child(folder, steps=steps, **settings))
        found = {
            "kind": "evaluation", "at": at, "code": code, "killed": code in {-signal.SIGKILL, 128 + signal.SIGTERM},
            "recorded": recorded, "durable": durable, "lost": max(0, recorded - max(durable, default=0)),
            "usable": again == 0, "identical": again == 0 and digest(folder) == wanted,
        }  # fmt: skip
        if not found["usable"]:
            found["log"] = (root / "run.log").read_text()[-2000:]
        yield found
        _clear(root)


def command_trials(root: Path, count: int, seed: int = 0) -> Trials:
    """The real command, killed at random moments of its training."""
    whole, dice = commanded(root, random.Random(seed), None), random.Random(seed)
    for _ in range(count):
        yield commanded(root, dice, (whole["digest"], whole["seconds"] / 2))


def main() -> None:
    """Run trials and log each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=0)
    parser.add_argument("--command", type=int, default=0)
    parser.add_argument("--terminate", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--full", type=int, default=0)
    parser.add_argument("--evaluation", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, required=True)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, asked.log.open("a") as log:
        for trials in (
            kill_trials(Path(place) / "kill", asked.trials, asked.seed) if asked.trials else (),
            terminate_trials(Path(place) / "terminate", asked.terminate) if asked.terminate else (),
            command_trials(Path(place) / "command", asked.command, asked.seed) if asked.command else (),
            pair_trials(Path(place) / "pair", asked.pairs, asked.seed) if asked.pairs else (),
            worker_trials(Path(place) / "worker", asked.workers, asked.seed) if asked.workers else (),
            full_trials(Path(place) / "full", asked.full, asked.seed) if asked.full else (),
            evaluation_trials(Path(place) / "evaluation", asked.evaluation) if asked.evaluation else (),
        ):
            for name in ("kill", "terminate", "command", "pair", "worker", "full", "evaluation"):
                (Path(place) / name).mkdir(exist_ok=True)
            for found in trials:
                log.write(json.dumps(found) + "\n")
                log.flush()
    lines = [json.loads(line) for line in asked.log.read_text().splitlines()]
    print(len(lines), "trials;", sum(not line["usable"] for line in lines), "unusable;",
          sum(not line["identical"] for line in lines), "not identical; most steps lost:",
          max(line["lost"] for line in lines))  # fmt: skip


if __name__ == "__main__":
    main()
