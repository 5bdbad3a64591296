"""How evidence about a running job is had: its own model, rows, optimizer and gradients in place of built ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from vlcheck.evidence.collectors import COLLECTORS
from vlcheck.evidence.live_batches import BATCH_COLLECTORS
from vlcheck.evidence.live_run import LiveRun
from vlcheck.evidence.tiny import TinyAttempt
from vlcheck.finding import NotApplicable, Unavailable, collector
from vlcheck.gpus import Gpu
from vlcheck.memory.probe import this_card
from vlcheck.model.attached import Attached, attached
from vlcheck.model.config import ModelConfig
from vlcheck.model.dropout import Dropouts, dropouts
from vlcheck.model.family import Part
from vlcheck.model.first_forward import FirstForward, first_forward, reach_of
from vlcheck.model.gradients import PartGradients, gradients_by_part
from vlcheck.model.modules import ModuleTable
from vlcheck.model.optimizer_groups import OptimizerGroups, optimizer_groups
from vlcheck.model.tiny_run import Reach
from vlcheck.processing.processor import FoundProcessor


@collector("reading the live model's config")
def config(live_run: LiveRun) -> ModelConfig:
    """The config that the live model carries.

    Raises:
        Unavailable: if it has none.
    """
    from vlcheck.model.build import base_of

    found: Any = getattr(base_of(live_run.model), "config", None)
    if found is None:
        raise Unavailable("the model carries no config, as transformers' models do")
    values = {key: value for key, value in found.to_dict().items() if key != "quantization_config"}
    return ModelConfig(values, "the live model")


@collector("looking at the live run's processor")
def processor(live_run: LiveRun) -> FoundProcessor:
    """The processor that the run itself uses; no stand-in takes its place.

    Raises:
        Unavailable: if none is known.
    """
    if not hasattr(live_run.processor, "tokenizer") or not hasattr(live_run.processor, "image_processor"):
        known = type(live_run.processor).__name__ if live_run.processor is not None else "none"
        raise Unavailable(
            f"the processor that is known is {known}; labels and images take a tokenizer and an image processor",
            "hand in processor=, or give the trainer processing_class=processor",
        )
    return FoundProcessor(live_run.processor, "the run's own processor")


@collector("looking how adapters are attached")
def attached_adapters(live_run: LiveRun) -> Attached:
    """How often adapters were attached to the live model, and which of their tensors are frozen.

    Raises:
        NotApplicable: if the model has no adapter.
    """
    found = attached(live_run.model)
    if not found.tensors:
        raise NotApplicable("the model carries no adapter")
    return found


@collector("holding the optimizer's groups against the model")
def groups(live_run: LiveRun) -> OptimizerGroups:
    """Which parameters the optimizer steps, and which it leaves out.

    Raises:
        Unavailable: if there is no optimizer yet, or its parameters are flattened or sharded copies.
    """
    if live_run.optimizer is None:
        raise Unavailable("there is no optimizer yet", "judge the run once training has begun, or hand in optimizer=")
    found = optimizer_groups(live_run.model, live_run.optimizer)
    if any(
        type(p).__name__ in ("FlatParameter", "DTensor") or hasattr(p, "ds_id") for p in live_run.model.parameters()
    ):
        raise Unavailable("parameters are sharded, so that the optimizer holds others than the model names")
    return found


@collector("looking for dropout that is switched off")
def dropout(live_run: LiveRun) -> Dropouts:
    """Dropout layers of the live model, and whether they drop in the step that is judged.

    Raises:
        NotApplicable: if no layer drops anything, or whoever trains sets the mode in each step.
    """
    found = dropouts(live_run.model)
    if not found.layers:
        raise NotApplicable("no layer drops anything")
    if live_run.mode is None:
        raise NotApplicable("the trainer puts the model into training mode in each step")
    return found


@collector("running the live model up to its head on a real batch")
def forward_seen(live_run: LiveRun, modules: ModuleTable) -> FirstForward:
    """What a forward pass of the live model on its first batch showed; the run's state stays as it is.

    Raises:
        Unavailable: if there is no batch, or the model cannot be run here.
    """
    batch = next((each.made for each in live_run.batches if each.made is not None), None)
    if batch is None:
        raise Unavailable("no batch of the run is known", "hand in batches=, rows or a DataLoader")
    return first_forward(live_run.model, batch, modules, live_run.autocast)


@collector("telling which adapters a gradient can reach")
def reach(forward_seen: FirstForward, modules: ModuleTable, dropped: tuple[str, ...]) -> Reach:
    """Trained modules of the live model that a gradient can reach as it is checkpointed.

    Raises:
        Unavailable: if the model refuses its batch.
    """
    if forward_seen.error:
        raise Unavailable(f"the model refuses its first batch: {forward_seen.error}")
    return reach_of(forward_seen, modules, dropped)


@collector("reading the gradients of the first step")
def gradients(live_run: LiveRun, modules: ModuleTable) -> Mapping[Part, PartGradients]:
    """Gradients of the live model by part.

    Raises:
        Unavailable: if no backward pass has left any.
    """
    found = gradients_by_part(live_run.model, modules)
    if not found:
        raise Unavailable("no backward pass has left gradients yet", "judge the run again after its first backward")
    return found


@collector("reading how much of the device the first step took")
def measured_peak(live_run: LiveRun) -> int:
    """Allocated bytes at the worst moment of the first step.

    Raises:
        Unavailable: if no step was taken on a GPU.
    """
    if live_run.peak_bytes is None:
        raise Unavailable("no step was taken on a GPU yet", "use RunCheckCallback, which looks after the first step")
    return live_run.peak_bytes


@collector("looking up this machine's card")
def gpu() -> Gpu:
    """The card that the run trains on.

    Raises:
        Unavailable: without one.
    """
    if not torch.cuda.is_available():
        raise Unavailable("this machine has no GPU, so no memory was projected")
    return this_card()


@collector("leaving the miniature out: the model itself is here")
def tiny() -> TinyAttempt:
    """No miniature is built where the model itself can be run."""
    return TinyAttempt(None, "the live model was looked at, and no miniature built")


@collector("leaving the framework's defaults out: the run holds its own values")
def framework_remarks() -> tuple[str, ...]:
    """Nothing is assumed of a run whose objects are here."""
    return ()


LIVE: Mapping[str, Callable[..., Any]] = {
    **COLLECTORS,
    **{
        each.__name__: each
        for each in (
            *BATCH_COLLECTORS, config, processor, attached_adapters, groups, dropout, forward_seen, reach, gradients,
            measured_peak, gpu, tiny, framework_remarks,
        )
    },
}  # fmt: skip
"""Every collector of a live run: those of an audit, but for what the run itself holds."""
