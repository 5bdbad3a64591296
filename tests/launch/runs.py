"""One run for every job: a recipe of the 31B whose work and bytes are written out, so that no job costs an audit."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import vlcheck
from vlcheck.finding import Report
from vlcheck.gpus import GIB, Gpu, gpu
from vlcheck.launch.duration import StepWork
from vlcheck.launch.job import Job
from vlcheck.launch.native import job_of_config
from vlcheck.launch.read import read_job
from vlcheck.memory.host import Host
from vlcheck.memory.plan import LedgerLine, MemoryPlan
from vlcheck.memory.shape import Shape
from vlcheck.processing.lengths import Lengths
from vlcheck.spec import Location, RunSpec

JOBS = Path(__file__).parents[2] / "fixtures" / "jobs"
FILES = sorted(path for path in JOBS.glob("*/*") if path.parent.name != "upstream")
TODAY = date(2026, 11, 27)
WORK = StepWork(adapters=1202, flops=6.9e13, checkpointing=True)
"""Of a row of 512 tokens of the 31B with rank 64 on all linear layers."""
HOST = Host(checkpoint_bytes=62_545_000_000, adapter_bytes=2_150_000_000, trained=537_500_000, memory_bytes=0,
            merge_bytes=0, disk_bytes=0)  # fmt: skip
CARDS = {"cloud-run": "rtx-pro-6000", "gcloud": "rtx-pro-6000", "terraform": "rtx-pro-6000"}


def spec_for(form: str) -> RunSpec:
    """The run as its config would describe it for jobs of a format."""
    described = vlcheck.load(JOBS / "launch" / "sound-cloud-run.yaml")
    hardware = replace(described.hardware, gpu=CARDS.get(form, "h100"))
    return replace(described, hardware=hardware)


def plan_of(card: Gpu, size: int = 30 * GIB) -> MemoryPlan:
    """A plan of the 31B in NF4 on a card: rows of 512 tokens, and bytes that are written out."""
    return MemoryPlan(gpu=card, shape=Shape(), lines=(LedgerLine("weights", size),), reserved_bytes=size,
                      moments={"micro-step": size})  # fmt: skip


def evidence(card: str, **other: Any) -> dict[str, Any]:
    """What rules VLC6xx rest on beside the job."""
    found = {
        "gpu": gpu(card), "memory_plan": plan_of(gpu(card)), "job_plan": plan_of(gpu(card)), "step_work": WORK,
        "host": HOST, "lengths": Lengths(), "today": TODAY,
    }  # fmt: skip
    return {**found, **other}


def judged(job: Job, spec: RunSpec, *, select: tuple[str, ...] = ("VLC6",), **other: Any) -> Report:
    card = spec.hardware.gpu or "h100"
    return vlcheck.preflight(spec, job, select=select, offline=True, **evidence(card, **other))


def judged_file(path: Path) -> Report:
    form = path.parent.name
    if form == "launch":
        spec = vlcheck.load(path)
        return judged(job_of_config(spec), spec)
    return judged(read_job(path), spec_for(form))


def codes(report: Report) -> set[str]:
    return {outcome.rule.code for outcome in report.found()}


def planted(path: Path) -> set[str]:
    """The codes that a file's name says are planted in it."""
    head = path.name.partition("-")[0]
    return set() if head == "sound" else {f"VLC{code}" for code in head.split("+")}


HERE = Location("job.yaml", 1, 1)
