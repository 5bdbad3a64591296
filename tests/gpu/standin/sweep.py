"""Runs on the stand-in side by side on one card, a line each: the gate's five seeds first, then the faults.

    python -m tests.gpu.standin.sweep OUT --base fixtures/standin [--work DIR] [--seconds 500] [--workers 6]

Resumable: what has its line in OUT/runs.jsonl, or of the same base in fixtures/harm/, is not run again.
`settings.json` in OUT, or else in `fixtures/standin`, says how the runs are trained; without either a probe of three
learning rates decides.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parents[3] / "fixtures"
PROBED = (1e-3, 2e-3, 4e-3)
PROBE_STEPS = 250
"""Of the probe; the sound run takes as many where they name 97 % of the pictures, half again as many otherwise."""
TRAINED = 0.97
MINIATURE = {"per_device_train_batch_size": 2}


def wanted(seeds: tuple[int, ...]) -> Iterator[tuple[str, int]]:
    """Fault and seed of every run, in the order in which they are worth most: the gate, what it must notice, the rest.

    Of each fault two seeds come before the others.
    """
    from tests.gpu.standin.faults import FAULTS, INJECTED

    yield from (("none", seed) for seed in seeds)
    yield from ((fault, seeds[0]) for fault in INJECTED)
    rest = [fault for fault in FAULTS if fault != "none"]
    for number, seed in enumerate(seeds):
        yield from ((fault, seed) for fault in rest if number or fault not in INJECTED)


def lines(*files: Path) -> list[dict[str, Any]]:
    """Every line of JSON files that are there."""
    return [json.loads(line) for file in files if file.exists() for line in file.read_text("utf-8").splitlines()]


def digest(base: Path) -> str:
    """SHA-256 of a base's weights, by which a run says what it was tuned from."""
    return hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest()


def measured(base: str, folder: Path = FIXTURES / "harm") -> list[dict[str, Any]]:
    """The runs that are kept of that base."""
    return [line for line in lines(*sorted(folder.glob("*.jsonl"))) if line["base"] == base]


def work(out: Path, given: argparse.Namespace) -> None:
    """One process: run whatever nobody else has taken, until the clock says stop."""
    import torch

    from tests.gpu.standin.faults import FAULTS
    from tests.gpu.standin.tasks import run
    from vlcheck.evaluation import run as evaluation
    from vlcheck.evaluation.standin import spec_of
    from vlcheck.versions import installed

    for drawing in ("draw_confusion", "draw_wrong"):  # a picture of every run takes longer than its answers
        setattr(evaluation, drawing, lambda *_, **__: None)
    settings = json.loads(given.settings)
    steps, longest = settings.pop("steps"), 0.0
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    base = digest(given.base)
    done = {(line["fault"], line["seed"]) for line in lines(out / given.lines)}
    for job in json.loads(given.jobs):
        fault, seed, own = job["fault"], job["seed"], job.get("settings", {})
        name = "-".join(map(str, (fault, seed, *own.values()))).replace(" ", "_")
        if (fault, seed) in done and not own:
            continue
        if time.time() + 1.1 * longest > given.until:
            return
        try:
            (given.work / "claims" / name).touch(exist_ok=False)
        except FileExistsError:
            continue
        begun, folder = time.time(), given.work / "runs" / name
        shutil.rmtree(folder, ignore_errors=True)
        spec = spec_of(given.base, given.work / "photos", folder, seed=seed, **({"steps": steps, **settings} | own))
        try:
            found: dict[str, Any] = vars(run(spec, FAULTS[fault]))
        except Exception as error:  # what stops a run is what the fault does
            found = {"error": f"{type(error).__name__}: {str(error)[:400]}"}
        shutil.rmtree(folder, ignore_errors=True)
        longest = max(longest, time.time() - begun)
        line = {
            "fault": fault, "seed": seed, **found, "settings": {"steps": steps, **settings} | own,
            "wall": round(time.time() - begun, 1), "card": card, "versions": installed(), "base": base,
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
        }  # fmt: skip
        with (out / given.lines).open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps({key: line.get(key) for key in ("fault", "seed", "accuracy", "error", "wall")}), flush=True)


def side_by_side(
    given: argparse.Namespace, jobs: list[dict[str, Any]], settings: dict[str, Any], file: str, until: float
) -> None:
    """Let processes share these jobs, and end with the clock."""
    claims = given.work / "claims"
    shutil.rmtree(claims, ignore_errors=True)
    claims.mkdir(parents=True)
    asked = [
        sys.executable, "-m", "tests.gpu.standin.sweep", given.out, "--base", given.base, "--work", given.work,
        "--jobs", json.dumps(jobs), "--settings", json.dumps(settings), "--lines", file, "--until", until,
    ]  # fmt: skip
    threads = {**os.environ, "OMP_NUM_THREADS": "2"}
    with (given.out / "log.txt").open("ab") as log:
        processes = [
            subprocess.Popen(list(map(str, asked)), stdout=log, stderr=subprocess.STDOUT, env=threads)
            for _ in range(min(given.workers, len(jobs)))
        ]
    for process in processes:
        try:
            process.wait(max(1.0, until - time.time()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def probed(given: argparse.Namespace, until: float, own: dict[str, Any]) -> dict[str, Any]:
    """The learning rate and the steps with which the sound run does best."""
    settings = {"steps": PROBE_STEPS, "dataloader_num_workers": 1, **own}
    jobs = [{"fault": "none", "seed": 100, "settings": {"learning_rate": rate}} for rate in PROBED]
    side_by_side(given, jobs, settings, "probe.jsonl", until)
    seen = [line for line in lines(given.out / "probe.jsonl") if "accuracy" in line]
    best = max(seen, key=lambda line: float(line["accuracy"]), default=None)
    if best is None:
        raise SystemExit("no run of the probe has ended; its log says why")
    enough = best["accuracy"] >= TRAINED
    steps = settings["steps"] if enough else settings["steps"] * 3 // 2
    return {**settings, "learning_rate": best["settings"]["learning_rate"], "steps": steps}


def left(base: str, seeds: tuple[int, ...]) -> list[dict[str, Any]]:
    """The runs of a base that fixtures/harm lacks."""
    done = {(line["fault"], line["seed"]) for line in measured(base)}
    return [{"fault": fault, "seed": seed} for fault, seed in wanted(seeds) if (fault, seed) not in done]


def sweep(given: argparse.Namespace) -> None:
    """Probe where nothing is settled, then every run that the clock allows."""
    from tests.gpu.standin.faults import SEEDS
    from tests.gpu.standin.tasks import base_accuracy
    from vlcheck.evaluation.standin import Task, write_photos

    until, few = time.time() + given.seconds, given.miniature
    task = Task(breeds=4, train=4, test=2) if few else Task()
    write_photos(task, given.work / "photos", 1 if few else 14)
    kept = next((f for f in (given.out / "settings.json", FIXTURES / "standin" / "settings.json") if f.exists()), None)
    if kept:
        settings = json.loads(kept.read_text())
    else:
        settings = probed(given, until, {**MINIATURE, "steps": 1, "dataloader_num_workers": 0} if few else {})
        (given.out / "settings.json").write_text(json.dumps(settings) + "\n")
    side_by_side(given, left(digest(given.base), SEEDS[:1] if few else SEEDS), settings, "runs.jsonl", until - 8)
    if not (given.out / "base.json").exists() and time.time() < until:
        found = base_accuracy(given.base, given.work / "photos", given.work / "base")
        (given.out / "base.json").write_text(json.dumps(found) + "\n")


def main() -> None:
    """As the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--base", type=Path, default=FIXTURES / "standin")
    parser.add_argument("--work", type=Path, default=Path("/tmp/standin"))
    parser.add_argument("--seconds", type=float, default=500, help="of the whole call")
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--miniature", action="store_true", help="go through all of it on a CPU")
    parser.add_argument("--jobs")
    parser.add_argument("--settings")
    parser.add_argument("--lines", default="runs.jsonl")
    parser.add_argument("--until", type=float)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.jobs:
        work(given.out, given)
    else:
        sweep(given)


if __name__ == "__main__":
    main()
