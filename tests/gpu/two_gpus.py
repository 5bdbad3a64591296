"""Two processes against one: the curve, what a signal and a death leave, images a second.

    python -m tests.gpu.two_gpus OUT          on two GPUs of one machine, NCCL
    python -m tests.gpu.two_gpus OUT --cpu    the same on a CPU, gloo, with the tiny model throughout

Each part writes a line to OUT/two_gpus.jsonl when it is over; started again, what has its line is not done again. The
last line holds the verdicts, and the exit code is 1 if one of them is false.

The parts: `one`, twelve steps by one process; `two`, the same effective batch by two; `parted`, the same run begun by
two, ended by SIGTERM to the launcher, gone on with by two until one of them is killed, and ended by one; `speed-1` and
`speed-2`, Gemma 4 E4B with random weights in NF4, four images of up to 280 soft tokens a GPU and step.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

STEPS, SPEED_STEPS, WARM_STEPS = 12, 12, 3
SIGNAL_AT, DEATH_AT = 4, 8
TOLERANCE = 2e-3
"""Of a loss, relative: twelve steps in fp32 whose sums are in another order."""
LEAST_SPEED_UP = 1.8
LAUNCHER = ("-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0")
LONGEST_SECONDS = 240


def spec_of(kind: str, folder: Path, processes: int, cpu: bool) -> Any:
    """A run's description: `curve`, whose effective batch is four whoever trains it, or `speed`."""
    from tests.training.runs import small
    from vlcheck.spec import CheckpointingKwargs, Lora, ModelRef, Quantization

    if kind == "curve":
        spec = small(
            folder, max_steps=STEPS, warmup_steps=0, learning_rate=1e-3, gradient_accumulation_steps=4 // processes
        )
        return replace(spec, lora=replace(spec.lora, lora_dropout=0.0))
    spec = small(
        folder, max_steps=SPEED_STEPS, per_device_train_batch_size=4, gradient_accumulation_steps=1,
        save_strategy="no", dataloader_num_workers=0 if cpu else 2,
    )  # fmt: skip
    spec = replace(spec, data=replace(spec.data, train_samples=None))
    if cpu:
        return spec
    return replace(
        spec,
        model=ModelRef(id="google/gemma-4-E4B-it", weights="random"),
        quantization=Quantization(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype="bfloat16",
        ),
        lora=Lora(r=16, lora_alpha=16, target_modules="all-linear", exclude_modules=".*audio.*"),
        data=replace(spec.data, max_soft_tokens=280),
        training=replace(
            spec.training, bf16=True, optim="paged_adamw_8bit", learning_rate=1e-5, gradient_checkpointing=True,
            gradient_checkpointing_kwargs=CheckpointingKwargs(use_reentrant=False),
        ),
    )  # fmt: skip


def work(kind: str, folder: Path, processes: int, cpu: bool) -> None:
    """Be one process of a run."""
    from vlcheck.evidence.resolve import Evidence
    from vlcheck.training.run import train_resolved

    run = Evidence(spec_of(kind, folder, processes, cpu), {}, offline=True).get("resolved_run")
    train_resolved(run, offline=True, say=lambda line: print(line, flush=True))


# --------------------------------------------------------------------------- parts


def started(kind: str, folder: Path, processes: int, cpu: bool) -> subprocess.Popen[bytes]:
    """Start a run in a process group of its own; its lines go beside its folder."""
    own = {"OMP_NUM_THREADS": "1"} if cpu else {}
    own |= {"ACCELERATE_USE_CPU": "true"} if cpu else {"NCCL_NVLS_ENABLE": "0"}
    launcher = LAUNCHER if processes > 1 else ()
    command = [sys.executable, *launcher, "-m", "tests.gpu.two_gpus", str(folder), "--work", kind]
    command += ["--processes", str(processes), *(["--cpu"] if cpu else [])]
    with (folder.parent / f"{folder.name}.log").open("ab") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **own}, start_new_session=True
        )


def whole(kind: str, folder: Path, processes: int, cpu: bool) -> dict[str, Any]:
    """A run from start to end; what it recorded."""
    begun = time.perf_counter()
    process = started(kind, folder, processes, cpu)
    code = ended(process)
    steps = recorded(folder)
    warm = [values for values in steps if values["step"] > WARM_STEPS]
    pace = sum(v["images"] for v in warm) / sum(v["seconds"] for v in warm) if warm else None
    found = {
        "code": code, "seconds": round(time.perf_counter() - begun, 1), "losses": [v["loss"] for v in steps],
        "images_per_second": pace, "step_seconds": median(v["seconds"] for v in warm) if warm else None,
        "wait_seconds": median(v["wait_seconds"] for v in warm) if warm else None,
        "snapshot_seconds": median(v["snapshot_seconds"] for v in warm) if warm else None,
        "peak_bytes": max((v["allocated_bytes"] for v in steps if "allocated_bytes" in v), default=None),
    }  # fmt: skip
    return found if code == 0 else {**found, "log": log_of(folder)}


def parted(folder: Path, cpu: bool) -> dict[str, Any]:
    """The run of `one`, begun by two processes, gone on with by two, ended by one."""
    begun = time.perf_counter()
    codes, took, kept, before = [], [], [], []
    for at, end in ((SIGNAL_AT, terminate), (DEATH_AT, kill_one)):
        if not any(values["step"] >= at for values in recorded(folder)):
            process = started("curve", folder, 2, cpu)
            waiting(process, lambda at=at: last_step(folder) >= at)
            signalled = time.perf_counter()
            end(process)
            codes.append(ended(process))
            took.append(round(time.perf_counter() - signalled, 2))
            before.append(last_step(folder))
            kept.append(newest(folder))
    process = started("curve", folder, 1, cpu)
    codes.append(ended(process))
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines() if line]
    return {
        "codes": codes, "ended_after_seconds": took, "recorded": before, "durable": kept,
        "resumed_after": [event["after"] for event in events if event.get("event") == "resumed"],
        "changed": [event["text"] for event in events if event.get("event") == "changed"],
        "losses": [values["loss"] for values in recorded(folder)], "seconds": round(time.perf_counter() - begun, 1),
        "log": log_of(folder) if codes[-1] else "",
    }  # fmt: skip


def terminate(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the launcher, as a platform sends it."""
    process.send_signal(signal.SIGTERM)


def kill_one(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the process of rank 1."""
    os.kill(rank_one(process.pid), signal.SIGKILL)


def rank_one(launcher: int) -> int:
    """The launcher's child whose environment says that it is rank 1."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == launcher and b"\0RANK=1\0" in b"\0" + (folder / "environ").read_bytes():
                return int(folder.name)
    raise RuntimeError(f"process {launcher} has no child of rank 1")


def waiting(process: subprocess.Popen[bytes], happened: Callable[[], bool]) -> None:
    """Wait until something has happened, or the process is over."""
    end = time.monotonic() + LONGEST_SECONDS
    while not happened() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)


def ended(process: subprocess.Popen[bytes]) -> int:
    """Wait for a run; one that takes too long is killed with all that it started."""
    try:
        return process.wait(LONGEST_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def recorded(folder: Path) -> list[dict[str, Any]]:
    """The steps that a run has recorded."""
    from vlcheck.training.record import METRICS, read_metrics

    return list(read_metrics(folder)) if (folder / METRICS).exists() else []


def last_step(folder: Path) -> int:
    """The last of them."""
    return max((values["step"] for values in recorded(folder)), default=0)


def newest(folder: Path) -> int:
    """The step of the newest checkpoint that verifies."""
    from vlcheck.training.checkpoint import verify
    from vlcheck.training.manifest import BrokenCheckpoint
    from vlcheck.training.ours import folders

    for each in folders(folder):
        with contextlib.suppress(BrokenCheckpoint):
            return verify(each).step
    return 0


def log_of(folder: Path) -> str:
    """The end of what a run printed."""
    return (folder.parent / f"{folder.name}.log").read_text(errors="replace")[-3000:]


def verdicts(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the parts show together."""
    one, two, cut = (found[name]["losses"] for name in ("one", "two", "parted"))
    speeds = [found[name]["images_per_second"] for name in ("speed-1", "speed-2")]
    speed_up = speeds[1] / speeds[0] if all(speeds) else None
    lost = [a - b for a, b in zip(found["parted"]["recorded"], found["parted"]["durable"], strict=True)]
    return {
        "two_is_one": len(one) == STEPS and _apart(one, two) < TOLERANCE, "two_apart": _apart(one, two),
        "parted_is_one": _apart(one, cut) < TOLERANCE, "parted_apart": _apart(one, cut),
        "sigterm_keeps_the_last_step": bool(lost) and lost[0] <= 0,
        "a_death_loses_two_steps_at_most": len(lost) > 1 and lost[1] <= 2,
        "one_goes_on": found["parted"]["codes"][-1] == 0,
        "speed_up": speed_up, "fast_enough": speed_up is not None and speed_up >= LEAST_SPEED_UP,
    }  # fmt: skip


def _apart(ours: list[float], theirs: list[float]) -> float:
    """Largest relative difference of two curves."""
    if len(ours) != len(theirs) or not ours:
        return float("inf")
    return max(abs(a - b) / abs(a) for a, b in zip(ours, theirs, strict=True))


def main() -> int:
    """Do what has no line yet; 1 if a verdict is false."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--work", choices=("curve", "speed"))
    parser.add_argument("--processes", type=int, default=1)
    asked = parser.parse_args()
    if asked.work:
        work(asked.work, asked.out, asked.processes, asked.cpu)
        return 0
    out, cpu = asked.out.resolve(), asked.cpu
    runs = out / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    log = out / "two_gpus.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    found = {line["part"]: line for line in lines if "part" in line}
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "one": lambda: whole("curve", runs / "one", 1, cpu),
        "two": lambda: whole("curve", runs / "two", 2, cpu),
        "parted": lambda: parted(runs / "parted", cpu),
        "speed-1": lambda: whole("speed", runs / "speed-1", 1, cpu),
        "speed-2": lambda: whole("speed", runs / "speed-2", 2, cpu),
    }
    for name, part in parts.items():
        if name not in found:
            found[name] = {"part": name, **part()}
            tell(log, found[name])
    said = {**verdicts(found), "device": "cpu" if cpu else _device()}
    if cpu:  # two processes share this machine's cores
        del said["fast_enough"]
    tell(log, said)
    return 1 if False in said.values() else 0


def _device() -> str:
    import torch

    return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}, torch {torch.__version__}"


def tell(log: Path, line: dict[str, Any]) -> None:
    """Add a line to the log, and print it."""
    text = json.dumps(line)
    with log.open("a") as file:
        file.write(text + "\n")
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
