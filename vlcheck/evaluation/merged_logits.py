"""Do merged and unmerged answer alike? Logits of both on pictures and text, one model in memory at a time.

What the two may differ by is measured, not assumed. PEFT's own merge, in memory and in the same number type, rounds at
least once, as the file was: the file may be no further from the unmerged model than twice what that merge is, and two
units in the last place. A tensor that is wrong moves logits by what the adapter moves them
by, which is measured too; where that is no more than the tolerance, the logits prove nothing, and it is said.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vlcheck.data.read import Row
from vlcheck.data.sources.generated import draw_rows
from vlcheck.evaluation.attach import attach
from vlcheck.evaluation.merge_plan import MergePlan, unwrapped
from vlcheck.evidence.resolve import Evidence
from vlcheck.finding import NotApplicable, Unavailable
from vlcheck.gpus import show_gib
from vlcheck.model.build import UnbuildableConfig, Weights, build_unadapted, load_base
from vlcheck.processing.resolved_run import ResolvedRun
from vlcheck.spec import ConfigError, Data, Problem

WITHOUT = "leave the logits out: --no-logits"
ROWS = 2
POSITIONS = 32
"""Last positions of each row whose logits are compared: the answer, and what stands before it."""


@dataclass(frozen=True)
class Logits:
    """How far logits are apart: root of the mean square over positions and vocabulary, by their own spread."""

    gap: float
    """Merged and unmerged."""
    tolerance: float
    by_peft: float
    """Merged in memory by PEFT, and unmerged: what rounding takes at least."""
    effect: float
    """Unmerged, and the base without the adapter."""
    agree: float
    """Share of positions at which merged and unmerged prefer the same token."""
    positions: int

    @property
    def right(self) -> bool:
        """Merged and unmerged are the same model, as far as the number type goes."""
        return self.gap <= self.tolerance

    @property
    def telling(self) -> bool:
        """A merge without the adapter would have been seen."""
        return self.effect > self.tolerance


def asked_run(plan: MergePlan, evidence: Evidence) -> ResolvedRun:
    """The run whose collator makes the batch, found before anything is written, as is that the model fits.

    Args:
        evidence: of the merged model's run.

    Raises:
        Unavailable: if the batch cannot be made, or the memory of card or host is smaller than the model.
    """
    try:
        run: ResolvedRun = evidence.get("resolved_run")
    except (Unavailable, NotApplicable) as lacking:
        raise Unavailable(f"the logits cannot be compared: {lacking}", WITHOUT) from lacking
    free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else _free_on_host()
    if free is not None and free < plan.bytes:
        where = "card" if torch.cuda.is_available() else "host"
        reason = f"the model takes {show_gib(plan.bytes)}, and the {where} has {show_gib(free)} free"
        raise Unavailable(f"the logits cannot be compared: {reason}", WITHOUT)
    return run


def compare_logits(
    plan: MergePlan, merged: Path, run: ResolvedRun, progress: Callable[[str], None] = lambda step: None
) -> Logits:
    """Ask both models the same, on a GPU where there is one.

    Args:
        plan: of the merge.
        merged: folder of the merged model, loaded by `from_pretrained` alone.
        run: of the merged model; its collator makes the batch.

    Raises:
        Unavailable: if the memory does not hold the model once.
        ConfigError: if either model cannot be loaded.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = {key: value.to(device) for key, value in _probe(run).items()}
    try:
        progress("asking the unmerged model")
        with _unmerged(plan, run, device) as model:
            adapted = _asked(model, batch)
            with model.disable_adapter():
                base = _asked(model, batch)
            model.merge_adapter()
            by_peft = _asked(model, batch)
        progress("asking the merged model")
        with _freed(load_base(replace(plan.spec, model=replace(plan.spec.model, id=str(merged))), device)) as model:
            found = _asked(model, batch)
    except torch.OutOfMemoryError as full:
        raise Unavailable(f"no memory for the model: {str(full).splitlines()[0]}", WITHOUT) from full
    except UnbuildableConfig as error:
        raise ConfigError(Problem(plan.spec.where("model.id"), str(error))) from error
    eps = torch.finfo(getattr(torch, plan.spec.model.dtype)).eps
    rounding = _distance(by_peft, adapted)
    same = found.argmax(-1) == adapted.argmax(-1)
    return Logits(
        gap=_distance(found, adapted),
        tolerance=2 * rounding + 2 * eps,
        by_peft=rounding,
        effect=_distance(base, adapted),
        agree=float(same.float().mean()),
        positions=same.numel(),
    )


def _free_on_host() -> int | None:
    """Bytes of memory that a process could have; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None


def _probe(run: ResolvedRun) -> dict[str, torch.Tensor]:
    """A batch of drawn pictures with the run's instruction, as the run collates it, without labels."""
    instruction = run.spec.data.instruction or "Which colour is the shape? Answer with one word."
    drawn = draw_rows(Data(generated="shapes", instruction=instruction, train_split="train"), "train")
    rows = [row.conversation for _, row in zip(range(ROWS), drawn, strict=False) if isinstance(row, Row)]
    batch = run.collator(rows)
    return {key: value for key, value in batch.items() if key != "labels"}


@contextmanager
def _unmerged(plan: MergePlan, run: ResolvedRun, device: str) -> Iterator[Any]:
    base = build_unadapted(plan.spec, Weights.PRETRAINED, config=plan.config.values, patch=run.patch, device=device)
    wrappers = {n: m for n, m in base.named_modules() if type(m).__name__ == plan.family.clip_wrapper}
    model = attach(unwrapped(base, plan.saved, wrappers), plan.saved, plan.family, device=device)
    del base, wrappers
    with _freed(model) as held:
        yield held


@contextmanager
def _freed(model: nn.Module) -> Iterator[Any]:
    """A model for a while: what stays of it afterwards is nothing."""
    try:
        yield model.requires_grad_(False).eval()
    finally:
        model.to("meta")
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _asked(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits of the last positions in fp32 on the CPU, shape (rows, positions, vocabulary)."""
    with torch.no_grad():
        logits: torch.Tensor = model(**batch, logits_to_keep=POSITIONS).logits
    return logits[:, -POSITIONS:].float().cpu()


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    spread = (other - other.mean(-1, keepdim=True)).square().mean().sqrt()
    return float((one - other).square().mean().sqrt() / spread)
