"""One run for every job: a recipe of the 31B whose work and bytes are written out, and a tiny model that stands in for
its memory, so that no job costs an audit.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import vlcheck
from tests import tiny
from vlcheck.finding import Report
from vlcheck.gpus import gpu
from vlcheck.launch.duration import StepWork
from vlcheck.launch.job import Job
from vlcheck.launch.native import job_of_config
from vlcheck.launch.read import read_job
from vlcheck.memory.host import Host
from vlcheck.memory.plan import MemoryPlan
from vlcheck.memory.project import Simulation
from vlcheck.model.families import family_of
from vlcheck.processing.lengths import Lengths, RowLength
from vlcheck.spec import Location, Lora, ModelRef, Quantization, RunSpec, Training

JOBS = Path(__file__).parents[2] / "fixtures" / "jobs"
FILES = sorted(path for path in JOBS.glob("*/*") if path.parent.name != "upstream")
TODAY = date(2026, 11, 27)
WORK = StepWork(adapters=1202, flops=6.9e13, checkpointing=True)
"""Of a row of 512 tokens of the 31B with rank 64 on all linear layers."""
HOST = Host(checkpoint_bytes=62_545_000_000, adapter_bytes=2_150_000_000, memory_bytes=0, merge_bytes=0, disk_bytes=0)
CARDS = {"cloud-run": "rtx-pro-6000", "gcloud": "rtx-pro-6000", "terraform": "rtx-pro-6000"}


def spec_for(form: str) -> RunSpec:
    """The run as its config would describe it for jobs of a format."""
    described = vlcheck.load(JOBS / "launch" / "sound-cloud-run.yaml")
    hardware = replace(described.hardware, gpu=CARDS.get(form, "h100"))
    return replace(described, hardware=hardware)


@cache
def tiny_simulation() -> Simulation:
    config = tiny.gemma4()
    spec = RunSpec(
        model=ModelRef(id="none"),
        lora=Lora(r=4, target_modules="all-linear"),
        quantization=Quantization(load_in_4bit=True),
        training=Training(framework="vlcheck", gradient_checkpointing=True, per_device_train_batch_size=1, bf16=True),
    )
    return Simulation(spec, config, family_of(config), lengths=Lengths((RowLength(384, 1, 280, 16),)))


@cache
def tiny_plan(card: str) -> MemoryPlan:
    return tiny_simulation().plan(gpu(card))


def evidence(card: str, **other: Any) -> dict[str, Any]:
    """What rules VLC6xx rest on beside the job."""
    found = {
        "gpu": gpu(card), "simulation": tiny_simulation(), "memory_plan": tiny_plan(card), "step_work": WORK,
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
