"""Errors of the memory projection over the stored measurements, as the table of docs/memory.md.

python -m tests.gpu.report
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MEASURED = Path(__file__).parents[2] / "fixtures" / "measured"
GIB = 2**30


def rows() -> list[dict[str, Any]]:
    """Every measured run with its projection."""
    return [json.loads(line) for file in sorted(MEASURED.glob("*-h100.jsonl")) if not file.name.startswith("attention")
            for line in file.read_text().splitlines()]  # fmt: skip


def mixed_rows() -> list[dict[str, Any]]:
    """Every measured run of real row mixtures with its plans, on one GPU and on two."""
    lines = (line for file in sorted(MEASURED.glob("rows-*.jsonl"), reverse=True)
             for line in file.read_text().splitlines())  # fmt: skip
    return [run for run in map(json.loads, lines) if run["name"] != "losses"]


def peak(run: dict[str, Any]) -> int:
    """What such a run allocated at most on any of its GPUs, from wrapping on, in bytes."""
    ranks = run.get("ranks") or [run["measured"]]
    return max(max(rank["allocated_bytes"], (rank.get("wrapping") or {}).get("peak", 0)) for rank in ranks)


def mixtures() -> str:
    """Markdown: a line a run of real rows."""
    head = ("run", "measured", "plan of the rows drawn", "off", "plan of the worst", "its bound")
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for run in mixed_rows():
        seen, drawn, worst = peak(run), run["projected"]["allocated_bytes"], run["worst"]
        sizes = [f"{size / GIB:.2f}" for size in (worst["allocated_bytes"], worst["upper_bytes"])]
        cells = [_told(run["run"]), f"{seen / GIB:.2f}", f"{drawn / GIB:.2f}", f"{drawn / seen - 1:+.2%}", *sizes]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _told(run: dict[str, Any]) -> str:
    told = [run["model"].split("/")[1], f"{run['micro']} x {run['longest']} tokens", f"logits {run['logits']}"]
    told += ["accumulated"] * (run["accumulation"] > 1) + ["two GPUs"] * (run["processes"] > 1)
    return ", ".join(told + ["all tensors synchronised"] * run["plain"])


def errors(runs: Iterable[dict[str, Any]], counter: str, projection: str = "projected") -> list[float]:
    """Projected over measured, less one."""
    return [run[projection][counter] / run["measured"][counter] - 1 for run in runs]


def summary(found: list[float]) -> dict[str, float]:
    """Median, mean and worst absolute error."""
    sizes = [abs(error) for error in found]
    return {"median": statistics.median(sizes), "mean": statistics.mean(sizes), "worst": max(sizes)}


def table() -> str:
    """Markdown: a line a family, then both splits."""
    head = ("family", "split", "runs", "measured peak", "allocated: median", "mean", "worst",
            "driver-visible: median", "worst")  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    every = rows()
    models = sorted({run["run"]["model"] for run in every}, key=lambda name: (_split(every, name), name.lower()))
    parts = [(model.split("/")[1], _split(every, model), [r for r in every if r["run"]["model"] == model])
             for model in models]  # fmt: skip
    parts += [(f"**all {split}**", split, [run for run in every if run["split"] == split])
              for split in ("calibration", "held-out")]  # fmt: skip
    lines += [_line(*part) for part in parts]
    return "\n".join(lines)


def _split(every: list[dict[str, Any]], model: str) -> str:
    return str(next(run["split"] for run in every if run["run"]["model"] == model))


def _line(name: str, split: str, runs: list[dict[str, Any]]) -> str:
    allocated, driver = (summary(errors(runs, f"{kind}_bytes")) for kind in ("allocated", "driver"))
    peaks = [run["measured"]["allocated_bytes"] / GIB for run in runs]
    cells = [name, split, str(len(runs)), f"{min(peaks):.1f} to {max(peaks):.1f} GiB",
             *(f"{allocated[key]:.2%}" for key in ("median", "mean", "worst")),
             *(f"{driver[key]:.2%}" for key in ("median", "worst"))]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    print(table())
