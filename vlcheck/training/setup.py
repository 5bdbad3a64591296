"""A run's live objects, built as its description says: processes, order of rows, model, optimizer, schedule."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, broadcast_object_list, set_seed
from torch import nn
from transformers import get_scheduler

from vlcheck.model.build import Patch, Weights, base_of, build_model
from vlcheck.model.ddp import leave_frozen_out
from vlcheck.model.family import Values
from vlcheck.spec import ConfigError, Problem, RunSpec
from vlcheck.training.compiled import compile_layers, compiles
from vlcheck.training.order import Order
from vlcheck.training.settings import settings_of
from vlcheck.training.snapshot import State, live_adapter
from vlcheck.training.step import make_optimizer, prepare
from vlcheck.training.trackers import check_trackers

T = TypeVar("T")


@dataclass(frozen=True)
class Live:
    """What the loop works on."""

    model: nn.Module
    """As the loop calls it: inside DDP where several processes train."""
    base: nn.Module
    """The transformers model inside."""
    names: Mapping[str, nn.Parameter]
    """What trains, by path in the base."""
    state: State
    compiled: int = 0
    """Layers that are compiled."""

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What trains."""
        return list(self.names.values())


TRL_ONLY = ("packing", "padding_free", "activation_offloading", "assistant_only_loss", "completion_only_loss")
"""Settings of TRL that change what a step sees or learns, or where it lies."""


def make_accelerator(spec: RunSpec) -> Accelerator:
    """Processes and devices, as `accelerate launch` set them up.

    Raises:
        ConfigError: for a way of training that the loop does not know.
    """
    settings, zero = spec.training, spec.training.zero_optimization
    for field, refused, allowed in (
        ("fsdp", settings.fsdp, "leave it out; vlcheck trains on one GPU, or on several with DDP"),
        (
            "zero_optimization",
            zero and f"of stage {zero.stage}",
            "leave it out; vlcheck trains on one GPU, or with DDP",
        ),
        *((name, getattr(settings, name) or None, "leave it out") for name in TRL_ONLY),
        ("fp16", settings.fp16 or None, "bf16: true, or neither"),
        ("save_strategy", settings.save_strategy if settings.save_strategy == "best" else None, "no, steps, epoch"),
    ):
        if refused is not None:
            message = f"training.{field} is {refused}; vlcheck train allows: {allowed}"
            raise ConfigError(Problem(spec.where(f"training.{field}"), message))
    check_trackers(spec)
    accelerator = Accelerator(kwargs_handlers=[DistributedDataParallelKwargs()])
    if accelerator.distributed_type not in (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU):
        seen = accelerator.distributed_type.value
        message = f"accelerate was set up for {seen}; vlcheck train allows: one process, or several with DDP"
        raise ConfigError(Problem(spec.where("training"), message))
    return accelerator


def agreed(value: T) -> T:
    """What the main process says, in every process; the others' value is not asked for."""
    held = [value]
    broadcast_object_list(held)
    return held[0]


def order_of(spec: RunSpec, rows: int | None, processes: int) -> Order:
    """The order in which a run takes its rows.

    Args:
        rows: of the training split; None for a stream, whose length nobody knows.

    Raises:
        ConfigError: if there are none, or the length of a streamed run is not told.
    """
    settings, data = spec.training, spec.data
    micro, accumulation = settings.per_device_train_batch_size, settings.gradient_accumulation_steps
    asked = settings.max_steps * micro * accumulation * processes if settings.max_steps > 0 else None
    if rows is None:
        rows = data.train_samples or asked
        if rows is None:
            message = "a streamed run has no known end; set training.max_steps or data.train_samples"
            raise ConfigError(Problem(spec.where("training.max_steps"), message))
        if settings.dataloader_num_workers:
            seen = f"training.dataloader_num_workers is {settings.dataloader_num_workers}"
            message = f"{seen}; a stream allows: 0, one thread reads and decodes it"
            raise ConfigError(Problem(spec.where("training.dataloader_num_workers"), message))
    if not rows:
        message = f"split {data.train_split!r} holds no usable row; nothing can be trained"
        raise ConfigError(Problem(spec.where("data.train_split"), message))
    total = asked or math.ceil(settings.num_train_epochs * rows)
    return Order(rows, total, micro, accumulation, processes, settings.seed)


def build(spec: RunSpec, config: Values, accelerator: Accelerator, order: Order, patch: Patch | None, *,
          all_used: bool = False) -> Live:  # fmt: skip
    """Model, optimizer and schedule, ready for the first step.

    Args:
        all_used: every micro-batch gives every adapter a gradient, so that DDP need not look for those without one.

    Raises:
        AdapterRefused, UnbuildableConfig: as `build_model` does.
    """
    settings = spec.training
    set_seed(settings.seed)
    weights = Weights(spec.model.weights)
    model = build_model(spec, weights, config=config, patch=patch, device=str(accelerator.device), seed=settings.seed)
    steps = settings_of(spec)
    prepare(model, steps)
    base = base_of(model)
    names = {name: p for name, p in base.named_parameters() if p.requires_grad}
    optimizer = make_optimizer(list(names.values()), steps)
    warmup = settings.warmup_steps * (order.steps if settings.warmup_steps < 1 else 1)
    schedule = get_scheduler(settings.lr_scheduler_type, optimizer, math.ceil(warmup), order.steps)
    state = State(live_adapter(model), tuple(names.values()), optimizer, schedule, adapter_config(model))
    compiled = compile_layers(model) if compiles(settings, order) else 0
    called = wrapped(model, accelerator, all_used=all_used)
    set_seed(settings.seed, device_specific=True)  # each process drops out differently
    return Live(called, base, names, state, compiled)


def wrapped(model: nn.Module, accelerator: Accelerator, *, all_used: bool) -> nn.Module:
    """The model as the loop calls it: where several processes train, inside a DDP that knows of what trains alone.

    Args:
        all_used: every micro-batch gives every adapter a gradient. A row without an image leaves the vision tower's
            without one, and DDP then has to look for them in each backward pass.
    """
    if accelerator.num_processes > 1:
        leave_frozen_out(model)
        accelerator.ddp_handler.find_unused_parameters = not all_used
    called: nn.Module = accelerator.prepare_model(model, device_placement=False)
    return called


def adapter_config(model: Any) -> str:
    """PEFT's adapter_config.json of a model."""
    config = {**model.peft_config["default"].to_dict(), "inference_mode": True}
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    return json.dumps(plain, indent=2, sort_keys=True, default=str)
