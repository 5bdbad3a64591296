"""A first look at the stand-in in one call: profile, bases for card and CPU, a few fine-tunes side by side.

    python -m tests.gpu.standin.first_look OUT [--work DIR] [--pretrain 200] [--miniature]

What has its line is not done again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MODULE = "tests.gpu.standin"
TUNES: tuple[dict[str, Any], ...] = (
    {"name": "rate 1e-3", "seed": 0, "steps": 400, "learning_rate": 1e-3, "rank": 16},
    {"name": "rate 2e-3", "seed": 0, "steps": 400, "learning_rate": 2e-3, "rank": 16},
    {"name": "rate 5e-3", "seed": 0, "steps": 400, "learning_rate": 5e-3, "rank": 16},
    {"name": "base", "seed": 0, "steps": 0},
    {"name": "short", "seed": 0, "steps": 200, "learning_rate": 2e-3, "rank": 32},
)


def main() -> None:
    """Stages one after the other; the longer ones beside what leaves the card to them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--work", type=Path, default=Path("/tmp/standin"))
    parser.add_argument("--pretrain", type=float, default=200)
    parser.add_argument("--seconds", type=float, default=520, help="of the whole call; what is left then is left out")
    parser.add_argument("--miniature", action="store_true", help="go through all of it on a CPU")
    parser.add_argument("--tune", type=json.loads)
    parser.add_argument("--photos", action="store_true")
    given = parser.parse_args()
    out, work, few = given.out.resolve(), given.work.resolve(), given.miniature
    if given.photos or given.tune:
        from tests.gpu.standin.tasks import Task, tune, write_photos

        task = Task(breeds=4, train=4, test=2) if few else Task()
        photos = write_photos(task, work / "photos", 1 if few else 12)
        if given.tune:
            tune(work / "gpu" / "base", photos, work / f"run-{time.time_ns()}", given.tune, out / "tunes.jsonl")
        return
    out.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + given.seconds
    own = ["--miniature"] * few
    device = ["--cpu", "--batch", "4"] if few else []

    drawing = started(out, f"{MODULE}.first_look", out, "--work", work, "--photos", *own)
    waited(started(out, f"{MODULE}.pretrain", out, "--profile", *device), min(150, left(end)))
    if not (work / "gpu" / "base" / "base.json").exists():
        seconds = min(given.pretrain, left(end) - 130)
        waited(
            started(
                out,
                f"{MODULE}.pretrain",
                work / "gpu",
                "--seconds",
                seconds,
                "--every",
                20,
                *device,
                *variant(out, few),
            ),
            left(end),
        )
        copied(work / "gpu", out, "gpu")
    waited(drawing, left(end))
    smaller = [
        "--small",
        "--seconds",
        1 if few else max(20, min(80, left(end) - 40)),
        "--every",
        20,
        "--eager",
        *device,
    ]
    beside = [started(out, f"{MODULE}.pretrain", work / "cpu", *smaller)]
    for tune_ in (TUNES[0], TUNES[3]) if few else TUNES:
        line = tune_ | (
            {"steps": min(2, tune_["steps"]), "per_device_train_batch_size": 2}
            if few
            else {"dataloader_num_workers": 3}
        )
        beside.append(started(out, f"{MODULE}.first_look", out, "--work", work, "--tune", json.dumps(line), *own))
    for process in beside:
        waited(process, left(end))
    copied(work / "cpu", out, "cpu")


def variant(out: Path, few: bool) -> list[str]:
    """The fastest way of those that were profiled."""
    if few or not (out / "pretrain.jsonl").exists():
        return []
    lines = [json.loads(line) for line in (out / "pretrain.jsonl").read_text().splitlines()]
    paces = {line["variant"]: line["step_seconds"] for line in lines if "step_seconds" in line}
    graphs = {name: pace for name, pace in paces.items() if not name.startswith("as the spikes")}
    best = min(graphs, key=graphs.__getitem__, default="compiled, graph")
    return ["--eager"] * best.startswith("eager") + ["--no-graph"] * (not best.endswith("graph"))


def started(out: Path, module: str, *arguments: Any) -> subprocess.Popen[bytes]:
    """A part as a process of its own; what it prints goes into one log."""
    with (out / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)], stdout=log, stderr=subprocess.STDOUT
        )


def waited(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait for its end; what takes too long is killed."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def left(end: float) -> float:
    """Seconds that are left, one at least."""
    return max(1.0, end - time.monotonic())


def copied(work: Path, out: Path, name: str) -> None:
    """What comes back of a base: its weights and what is known of it."""
    whole = (work / "base" / "base.json").exists()
    files = (
        (("base/model.safetensors", "safetensors"), ("base/base.json", "json"))
        if whole
        else (("pretrain.jsonl", "jsonl"),)
    )
    for file, to in files:
        if (work / file).exists():
            shutil.copyfile(work / file, out / f"{name}.{to}")


if __name__ == "__main__":
    main()
