"""Measure the runs of `tests/gpu/runs.py` on this machine's GPU; one JSON line a run, resumable.

    python -m tests.gpu.measure_runs OUT.jsonl [--only calibration|held-out|settings] [--seconds N] [--traces DIR]

Each line holds the run's settings, what was measured, and the projection made in the same environment.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import gc
import gzip
import json
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from tests.gpu.runs import RUNS, SETTINGS, Run
from vlcheck.memory.measure import measure
from vlcheck.model import catalogue
from vlcheck.model.build import Weights, build_model
from vlcheck.model.families import family_of
from vlcheck.training.settings import settings_of
from vlcheck.training.step import prepare, switch_checkpointing

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate")


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--only", default="")
    arguments.add_argument("--seconds", type=float, default=540)
    arguments.add_argument("--traces", type=Path)
    arguments.add_argument("--names", default="")
    given = arguments.parse_args()
    deadline = time.monotonic() + given.seconds
    done = {json.loads(line)["name"] for line in given.out.read_text().splitlines()} if given.out.exists() else set()
    wanted = [
        r for r in (*RUNS, *SETTINGS) if given.only in ("", r.split) and r.name not in done and given.names in r.name
    ]
    held: tuple[Any, Any] = (None, None)
    model: Any = None
    for run in wanted:
        if time.monotonic() > deadline:
            print("out of time before", run.name, flush=True)
            break
        row = {"name": run.name, "split": run.split, **environment(), "run": dataclasses.asdict(run)}
        try:
            if held[0] != run.model_key():
                held, model = (None, None), None  # the last reference to the model before
                gc.collect()
                torch.cuda.empty_cache()
                start = time.perf_counter()
                held = (run.model_key(), build(run))
                row["build_seconds"] = round(time.perf_counter() - start, 2)
            model, spec, values = held[1], run.spec(), catalogue.lookup(run.model).config
            switch_checkpointing(model, settings_of(spec))
            traced = given.traces if run.trace else None
            if traced:
                torch.cuda.memory._record_memory_history(enabled="all", context=None, max_entries=2_000_000)
            measured = measure(model, family_of(values), settings_of(spec), run.shape(), steps=run.steps)
            if traced:
                save_trace(traced / f"{run.name.replace('/', '_').replace(' ', '_')}.json.gz")
            row["measured"] = dataclasses.asdict(measured)
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {str(error)[:400]}"
            held, model = (None, None), None
        with given.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        figures = row.get("measured", {})
        print(run.name, row.get("build_seconds", ""), row.get("error", ""),
              {k: round(figures[k] / 2**30, 3) for k in figures if k.endswith("_bytes")},
              [round(s, 2) for s in figures.get("seconds", ())], flush=True)  # fmt: skip


def build(run: Run) -> Any:
    spec = run.spec()
    model = build_model(spec, Weights.RANDOM, config=catalogue.lookup(run.model).config, device="cuda")
    prepare(model, settings_of(spec))
    return model


def environment() -> dict[str, str]:
    driver = subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
                            capture_output=True, text=True, check=False).stdout.strip()  # fmt: skip
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except Exception:
            found[name] = "missing"
    total = torch.cuda.get_device_properties(0).total_memory
    return {"gpu": torch.cuda.get_device_name(), "gpu_bytes": total, "driver": driver,
            "date": datetime.date.today().isoformat(), "python": platform.python_version(),
            "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "versions": found}  # fmt: skip


def save_trace(path: Path) -> None:
    """Signed sizes and addresses of every allocation and release, in order."""
    snapshot = torch.cuda.memory._snapshot()
    torch.cuda.memory._record_memory_history(enabled=None)
    actions = {"alloc": 1, "free_requested": -1, "segment_alloc": 2, "segment_free": -2}
    trace = [
        (actions[e["action"]], e["addr"], e["size"]) for e in snapshot["device_traces"][0] if e["action"] in actions
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt") as file:
        json.dump(trace, file)


if __name__ == "__main__":
    main()
