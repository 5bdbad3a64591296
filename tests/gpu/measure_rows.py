"""Train runs with real row mixtures on this machine's GPUs; one JSON line a run, resumable.

    python -m tests.gpu.measure_rows OUT.jsonl [--part single] [--seconds N] [--names PART]
    python -m torch.distributed.run --nproc_per_node=2 -m tests.gpu.measure_rows OUT.jsonl --part ddp [...]

Each line holds the run, its rows as the audit measures them, the plan for the worst micro-batch that they allow, the
plan for those that were drawn, and what each micro-batch took. `--part ddp` ends with a line that compares losses of
two processes with those of one. `--tiny` goes through all of it with a tiny model, on a CPU too.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import gc
import itertools
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, gather_object, set_seed
from torch import nn

from tests.gpu.rows import DDP, SINGLE, RowsRun, write_rows
from vlcheck.evidence.resolve import Evidence
from vlcheck.gpus import Gpu
from vlcheck.gpus import gpu as row_of
from vlcheck.memory.draws import shapes_drawn
from vlcheck.memory.plan import MemoryPlan
from vlcheck.memory.probe import this_card
from vlcheck.memory.project import Simulation
from vlcheck.model.build import Weights, base_of, build_model
from vlcheck.processing.collator import to_device
from vlcheck.processing.lengths import RowLength
from vlcheck.spec import RunSpec
from vlcheck.training.effective import counted, weighed
from vlcheck.training.feed import feed
from vlcheck.training.order import Listed, Order
from vlcheck.training.rows import read_training_rows
from vlcheck.training.settings import settings_of
from vlcheck.training.setup import make_accelerator, order_of, wrapped
from vlcheck.training.step import autocast, finish, make_optimizer, micro_step, prepare, trainable

CUDA = torch.cuda.is_available()
WORKERS = 8
"""Processes that project while the GPU trains."""
ALIKE = 1e-4
"""Losses of two processes and of one, in fp32."""


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--part", choices=("single", "ddp"), default="single")
    arguments.add_argument("--seconds", type=float, default=540)
    arguments.add_argument("--names", default="")
    arguments.add_argument("--tiny", action="store_true")
    given = arguments.parse_args()
    warnings.simplefilter("ignore")
    deadline = time.monotonic() + given.seconds
    runs = SINGLE if given.part == "single" else DDP
    done = {json.loads(line)["name"] for line in given.out.read_text().splitlines()} if given.out.exists() else set()
    wanted = [run for run in runs if run.name not in done and given.names in run.name]
    if given.tiny and CUDA:
        raise SystemExit("--tiny is for a CPU")
    if given.part == "single":
        _single(wanted, given, deadline)
    else:
        _ddp(wanted, given, deadline, losses="losses" not in done and given.names in "losses")


# ------------------------------------------------------------------------------------------------ the two parts


def _single(wanted: list[RowsRun], given: argparse.Namespace, deadline: float) -> None:
    with tempfile.TemporaryDirectory() as root, _projecting(wanted, Path(root), given.tiny) as plans:
        model: nn.Module | None = None
        key: Any = None
        for run in wanted:
            if time.monotonic() > deadline:
                print("out of time before", run.name, flush=True)
                break
            start, row = time.perf_counter(), _header(run)
            try:
                spec = run.spec(Path(root) / run.name, tiny=given.tiny)
                if key != run.model_key():
                    model, key = None, None
                    _settle()
                    model, key = _built(spec, _device()), run.model_key()
                row["build_seconds"] = round(time.perf_counter() - start, 2)
                assert model is not None
                row["measured"] = dataclasses.asdict(_trained(model, model, spec, 0, 1))
                row["seconds"] = round(time.perf_counter() - start, 2)
                row |= plans[run.name].result()
            except Exception as error:
                row["error"] = f"{type(error).__name__}: {str(error)[:600]}"
                model, key = None, None
            _write(given.out, row)


def _ddp(wanted: list[RowsRun], given: argparse.Namespace, deadline: float, *, losses: bool) -> None:
    """Every process comes here; the first one projects and writes."""
    rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if CUDA:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    root = Path(tempfile.gettempdir()) / f"rows-{os.environ['MASTER_PORT']}"
    own = wanted if rank == 0 else []
    with _projecting(own, root, given.tiny) as plans:
        accelerator = make_accelerator(DDP[0].spec(root))
        accelerator.wait_for_everyone()
        held: tuple[Any, Any, Any, Any] = (None, None, None, None)
        for run in wanted:
            if gather_object([time.monotonic() > deadline])[0]:
                break
            start, row = time.perf_counter(), _header(run)
            spec = run.spec(root / run.name, tiny=given.tiny)
            if held[0] != run.model_key():
                held, model, called = (None, None, None, None), None, None  # the last references to the model before
                _settle()
                model = _built(spec, str(accelerator.device))
                called, wrapping = _wrapped(model, run, accelerator)
                held = (run.model_key(), model, called, wrapping)
            measured = _trained(held[1], held[2], spec, rank, processes)
            every = gather_object([dataclasses.asdict(measured) | {"wrapping": held[3]}])
            row["seconds"] = round(time.perf_counter() - start, 2)
            if rank == 0:
                row |= {"measured": every[0], "ranks": every, **plans[run.name].result()}
                _write(given.out, row)
        held = (None, None, None, None)
        _settle()
        if losses:
            found = _compare_losses(accelerator, root)
            if rank == 0:
                _write(given.out, found)
        accelerator.wait_for_everyone()
    accelerator.end_training()


def _wrapped(model: nn.Module, run: RowsRun, accelerator: Accelerator) -> tuple[nn.Module, dict[str, int]]:
    """A model in DDP, ours or plain, and what was allocated before, at the most, and after."""
    meter = Meter()
    before = meter.now
    with meter.most():
        if run.plain:
            accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
            called: nn.Module = accelerator.prepare_model(model, device_placement=False)
        else:
            called = wrapped(model, accelerator, all_used=True)
    accelerator._models.clear()  # nothing else may hold the model once the next one is built
    return called, {"before": before, "peak": meter.allocated, "after": meter.now}


def _compare_losses(accelerator: Accelerator, root: Path) -> dict[str, Any]:
    """Losses of two processes with one micro-batch a step, and of one with two, in fp32 without dropout."""
    run = RowsRun("tiny/tiny", rows=12, longest=4_000, processes=2)
    folder = root / "losses"
    if accelerator.is_main_process:
        write_rows(run, folder, tiny=True)
    accelerator.wait_for_everyone()
    base = run.spec(folder, tiny=True)
    spec = replace(
        base,
        model=replace(base.model, dtype="float32"),
        lora=replace(base.lora, lora_dropout=0.0),
        training=replace(base.training, bf16=False, max_steps=6, optim="adamw_torch"),
    )
    alone = replace(spec, training=replace(spec.training, gradient_accumulation_steps=2))
    model = _built(spec, str(accelerator.device))
    two = _trained(model, wrapped(model, accelerator, all_used=True), spec, accelerator.process_index, 2)
    accelerator._models.clear()
    one = _built(alone, str(accelerator.device))
    single = _trained(one, one, alone, 0, 1, speaks=False)
    apart = max(abs(a / b - 1) for a, b in zip(two.losses, single.losses, strict=True))
    return {"name": "losses", "two": two.losses, "one": single.losses, "apart": apart, "alike": apart < ALIKE,
            **_environment()}  # fmt: skip


# ------------------------------------------------------------------------------------------------ training


@dataclass
class Measured:
    """Bytes and seconds of a run."""

    weights_bytes: int = 0
    allocated_bytes: int = 0
    reserved_bytes: int = 0
    driver_bytes: int = 0
    context_bytes: int = 0
    optimizer_bytes: int = 0
    """Peak of the optimizer steps."""
    micro_batches: list[dict[str, Any]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Meter:
    """What torch allocates on the GPU; without one, nothing."""

    allocated = reserved = 0

    @property
    def now(self) -> int:
        return torch.cuda.memory_allocated() if CUDA else 0

    @contextlib.contextmanager
    def most(self) -> Iterator[None]:
        if CUDA:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        yield
        if CUDA:
            torch.cuda.synchronize()
            self.allocated, self.reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()


def _built(spec: RunSpec, device: str) -> nn.Module:
    set_seed(spec.training.seed)
    config = Evidence(spec, {}, offline=True).get("config").values
    model = build_model(spec, Weights.RANDOM, config=config, device=device, seed=spec.training.seed)
    prepare(model, settings_of(spec))
    return model


def _trained(model: nn.Module, called: nn.Module, spec: RunSpec, rank: int, processes: int, *,
             speaks: bool = True) -> Measured:  # fmt: skip
    """Steps as `vlcheck.training.loop` takes them, each micro-batch measured by itself.

    Args:
        called: the model as it is called: inside DDP where several processes train.
        speaks: processes exchange what they hold.
    """
    settings, evidence = settings_of(spec), Evidence(spec, {}, offline=True)
    rows = read_training_rows(spec, offline=True).conversations
    order = order_of(spec, len(rows), processes)
    parameters, meter, measured = trainable(model), Meter(), Measured()
    device = next(base_of(model).parameters()).device
    optimizer = make_optimizer(parameters, settings)
    _settle()
    measured.weights_bytes = meter.now
    if CUDA:
        free, total = torch.cuda.mem_get_info()
        measured.context_bytes = total - free - torch.cuda.memory_reserved()
    source = Listed(rows, order)
    for number, micro_batches in enumerate(feed(source, order, evidence.get("own_collator"), rank=rank, start=0)):
        begun = time.perf_counter()
        supervised = counted(micro_batches, processes if speaks else 1).supervised
        loss = torch.zeros((), device=device)
        for place, (batch, share) in enumerate(weighed(micro_batches, supervised), 1):
            alone = processes > 1 and place < len(micro_batches)
            with meter.most(), called.no_sync() if alone else contextlib.nullcontext():  # type: ignore[operator]
                mean = micro_step(
                    called,
                    to_device(batch, device),
                    supervised_only=settings.supervised_only,
                    context=functools.partial(autocast, settings.precision, device.type),
                    share=share * processes,
                )
            loss += mean * share
            shape = list(batch["input_ids"].shape)
            measured.micro_batches.append({
                "step": number, "shape": shape, "supervised": micro_batches[place - 1].supervised,
                "images": micro_batches[place - 1].images, "allocated_bytes": meter.allocated,
            })  # fmt: skip
            _raise(measured, meter)
        with meter.most():
            finish(parameters, optimizer, settings.max_grad_norm)
        measured.optimizer_bytes = max(measured.optimizer_bytes, meter.allocated)
        _raise(measured, meter)
        measured.losses.append(sum(gather_object([float(loss)])) if processes > 1 else float(loss))
        measured.seconds.append(round(time.perf_counter() - begun, 3))
        if CUDA:
            free, total = torch.cuda.mem_get_info()
            measured.driver_bytes = max(measured.driver_bytes, total - free)
    model.zero_grad(set_to_none=True)
    optimizer.state.clear()
    del optimizer
    _settle()
    return measured


def _raise(measured: Measured, meter: Meter) -> None:
    measured.allocated_bytes = max(measured.allocated_bytes, meter.allocated)
    measured.reserved_bytes = max(measured.reserved_bytes, meter.reserved)


# ------------------------------------------------------------------------------------------------ projecting


@contextlib.contextmanager
def _projecting(runs: list[RowsRun], root: Path, tiny: bool) -> Iterator[dict[str, Future[dict[str, Any]]]]:
    """Write the rows of every run, and project the runs in other processes meanwhile."""
    for run in runs:
        write_rows(run, root / run.name, tiny=tiny)
    if not runs:
        yield {}
        return
    card = this_card() if CUDA else row_of("h100")
    with ProcessPoolExecutor(min(WORKERS, len(runs)), get_context("spawn")) as pool:
        try:
            yield {run.name: pool.submit(project, run, root / run.name, card, tiny) for run in runs}
        finally:
            pool.shutdown(cancel_futures=True)
            if "RANK" in os.environ:
                shutil.rmtree(root, ignore_errors=True)


def project(run: RowsRun, folder: Path, card: Gpu, tiny: bool) -> dict[str, Any]:
    """The plan that the audit makes of a run's rows, and the plan of the micro-batches that it draws."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    start, spec = time.perf_counter(), run.spec(folder, tiny=tiny)
    evidence = Evidence(spec, {}, offline=True)
    lengths, family = evidence.get("lengths"), evidence.get("family")
    simulation = Simulation(spec, evidence.get("config").values, family, lengths=lengths)
    order: Order = order_of(spec, len(lengths.rows), run.processes)
    first: list[list[RowLength]] = []
    later: list[list[RowLength]] = []
    for step, rank in itertools.product(range(order.steps), range(run.processes)):
        for number, places in enumerate(filter(None, order.micro_batches(step, rank))):
            (later if number else first).append([lengths.rows[order.row(place)] for place in places])
    worst = simulation.plan(card)
    alone = replace(simulation.settings, accumulation=1)  # the first of a step meets no gradients
    drawn = [
        simulation.plan(card, shape, settings)
        for batches, settings in ((first, alone), (later, simulation.settings))
        for shape in shapes_drawn(batches, spec.data, family, simulation.config)
    ]
    return {
        "rows": [[row.tokens, row.images, row.soft_tokens, row.supervised] for row in lengths.rows],
        "unread": lengths.unread,
        "worst": _figures(worst),
        "projected": _figures(max(drawn, key=lambda plan: plan.allocated_bytes)),
        "simulated": len(drawn),
        "projection_seconds": round(time.perf_counter() - start, 2),
    }


def _figures(plan: MemoryPlan) -> dict[str, Any]:
    return {
        "allocated_bytes": plan.allocated_bytes, "reserved_bytes": plan.reserved_bytes,
        "driver_bytes": plan.driver_bytes, "upper_bytes": plan.upper_bytes, "moment": plan.moment,
        "moments": {name: size for name, size in plan.moments.items() if "DDP" in name or "optimizer" in name},
        "shape": str(plan.shape), "lines": [[line.cause, line.size] for line in plan.lines],
        "doubts": list(plan.doubts),
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------ the lines


def _header(run: RowsRun) -> dict[str, Any]:
    return {"name": run.name, "run": dataclasses.asdict(run), **_environment()}


def _environment() -> dict[str, Any]:
    if CUDA:
        from tests.gpu.measure_runs import environment

        return environment()
    return {"gpu": "none", "versions": {name: version(name) for name in ("torch", "transformers", "peft")}}


def _write(out: Path, row: dict[str, Any]) -> None:
    with out.open("a") as file:
        file.write(json.dumps(row) + "\n")
    measured = row.get("measured", {})
    real, planned, worst = (
        part.get("allocated_bytes", 0) / 2**30 for part in (measured, row.get("projected", {}), row.get("worst", {}))
    )
    told = [row["name"], f"{real:.3f} GiB measured, {planned:.3f} projected, {worst:.3f} worst"]
    if real:
        told.append(f"off {planned / real - 1:+.2%}")
    told += [str(row[key]) for key in ("seconds", "apart", "error") if key in row]
    if "wrapping" in measured:
        told.append(f"wrapping {measured['wrapping']}")
    print("; ".join(told), flush=True)


def _device() -> str:
    return "cuda" if CUDA else "cpu"


def _settle() -> None:
    gc.collect()
    if CUDA:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
