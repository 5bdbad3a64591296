"""What the memory plan says for the card of this machine, or the one that the config names."""

from __future__ import annotations

from dataclasses import replace

import torch

from vlcheck.evidence.resolve import Evidence
from vlcheck.finding import Unavailable
from vlcheck.gpus import Gpu, card
from vlcheck.memory.probe import this_card
from vlcheck.memory.project import project_memory
from vlcheck.memory.search import fit
from vlcheck.model.config import ModelConfig
from vlcheck.processing.resolved_run import ResolvedRun
from vlcheck.spec import RunSpec, Training


def projected_here(run: ResolvedRun, evidence: Evidence | None = None) -> tuple[int, int] | None:
    """Allocated bytes that are projected for this machine's card, and their upper bound; None without a card.

    Args:
        evidence: of the run, which knows how long its rows are.
    """
    if not torch.cuda.is_available():
        return None
    processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    spec = replace(run.spec, hardware=replace(run.spec.hardware, count=processes))
    try:
        lengths = evidence.get("lengths") if evidence is not None else None
        plan = project_memory(spec, run.config.values, run.family, this_card(), lengths=lengths)
    except Unavailable:
        return None
    return plan.allocated_bytes, plan.upper_bytes


def left_to_fit() -> str:
    """Stands for `projection` where a run is about to start: it would take a third of the audit's time."""
    return "`vlcheck fit` tells what the run takes"


def recommended_training(spec: RunSpec, evidence: Evidence) -> tuple[Training, str]:
    """Training settings with the micro-batch that the memory plan recommends, and a line that says which.

    The effective batch stays that of the config.

    Raises:
        Unavailable: if there is no card to plan for, or no micro-batch of the run fits it.
    """
    card = _card(spec)
    config: ModelConfig = evidence.get("config")
    best = fit(
        evidence.get("aimed"), config.values, evidence.get("family"), card, lengths=evidence.get("lengths")
    ).recommended
    if best is None:
        raise Unavailable(f"no micro-batch of this run fits a {card.title}", "see `vlcheck fit`")
    training = replace(
        spec.training,
        per_device_train_batch_size=best.rows,
        gradient_accumulation_steps=best.accumulation,
        gradient_checkpointing=best.checkpointed,
    )
    on = "on" if best.checkpointed else "off"
    line = f"plan for {card.title}: micro-batch {best.rows}, accumulation {best.accumulation}, checkpointing {on}"
    return training, line


def _card(spec: RunSpec) -> Gpu:
    if torch.cuda.is_available():
        return this_card()
    named = card(spec.hardware.gpu, spec.hardware.memory_gib)
    if named is None:
        raise Unavailable("--auto-batch plans for a card: this machine has none, and the config names no hardware.gpu")
    return named
