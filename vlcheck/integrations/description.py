"""A `RunSpec` of live objects: what the rules read of a run's description, from what the run itself carries."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, get_args, get_type_hints

import torch
from torch import nn

from vlcheck.model.build import base_of
from vlcheck.spec import (
    CheckpointingKwargs,
    Data,
    Framework,
    Intent,
    Location,
    Lora,
    ModelRef,
    Quantization,
    RunSpec,
    Training,
)

ARGUMENTS = (
    "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "num_train_epochs",
    "max_steps", "learning_rate", "weight_decay", "max_grad_norm", "bf16", "fp16", "eval_strategy", "eval_steps",
    "dataloader_num_workers", "remove_unused_columns", "packing", "padding_free", "activation_offloading",
    "assistant_only_loss", "completion_only_loss", "seed",
)  # fmt: skip
"""Fields of `Training` that are read off a trainer's arguments where they have them."""

OPTIMIZERS = {
    "AdamW": "adamw_torch_fused", "Adam": "adamw_torch_fused", "SGD": "sgd", "Adafactor": "adafactor",
    "AdamW8bit": "adamw_8bit", "PagedAdamW8bit": "paged_adamw_8bit", "PagedAdamW32bit": "paged_adamw_32bit",
}  # fmt: skip
"""Fields' words for classes of optimizers."""


def describe(
    model: nn.Module,
    *,
    arguments: Any = None,
    optimizer: Any = None,
    framework: Framework = "other",
    intent: Intent | None = None,
    modalities: tuple[Any, ...] = ("image", "text"),
    sources: Mapping[str, Location] = MappingProxyType({}),
) -> RunSpec:
    """The description of a running job.

    Args:
        model: as it is trained, with or without PEFT around it.
        arguments: a trainer's `args`; without them, fields keep their defaults.
        optimizer: of which the class is read, where there are no arguments.
        sources: places that findings name, by section.
    """
    base: Any = base_of(model)
    return RunSpec(
        model=ModelRef(id=str(getattr(base, "name_or_path", "") or type(base).__name__), dtype=_dtype(base)),
        lora=_lora(model) or Lora(),
        quantization=quantization_of(getattr(getattr(base, "config", None), "quantization_config", None)),
        data=Data(max_length=getattr(arguments, "max_length", None), modalities=modalities),
        training=_training(base, arguments, optimizer, framework),
        intent=intent or Intent(),
        sources=sources,
    )


def adapted(model: nn.Module) -> bool:
    """Whether a model carries LoRA as PEFT attaches it."""
    return _lora(model) is not None


def _lora(model: Any) -> Lora | None:
    """The settings of the adapter that is active; None where there is none, or another kind of adapter."""
    configs = getattr(model, "peft_config", None) or getattr(base_of(model), "peft_config", None) or {}
    found = next((each for each in configs.values() if str(getattr(each, "peft_type", "")).endswith("LORA")), None)
    if found is None:
        return None
    values = {each.name: _plain(getattr(found, each.name, None)) for each in dataclasses.fields(Lora)}
    return Lora(**{name: value for name, value in values.items() if value is not None})


def _plain(value: Any) -> Any:
    """A PEFT setting as a `Lora` holds it: sets and lists as tuples, words of an enumeration as text."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, set | frozenset):
        return tuple(sorted(value))
    return tuple(value) if isinstance(value, list) else value


def quantization_of(found: Any) -> Quantization | None:
    """The quantisation that a `BitsAndBytesConfig` or its values ask for; None where they ask for none."""
    values = found.to_dict() if hasattr(found, "to_dict") else found
    if not isinstance(values, Mapping) or not (values.get("load_in_4bit") or values.get("load_in_8bit")):
        return None
    known = {each.name for each in dataclasses.fields(Quantization)}
    return Quantization(**{key: _word(value) for key, value in values.items() if key in known and value is not None})


def _word(value: Any) -> Any:
    """A setting of bitsandbytes as text, a tuple or a number."""
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    return tuple(value) if isinstance(value, list) else value


def _training(base: Any, arguments: Any, optimizer: Any, framework: Framework) -> Training:
    values = {name: _plain(getattr(arguments, name)) for name in ARGUMENTS if hasattr(arguments, name)}
    on, reentrant = _checkpointing(base)
    optim = _plain(getattr(arguments, "optim", None)) or OPTIMIZERS.get(type(optimizer).__name__)
    allowed = get_args(get_type_hints(Training)["optim"])
    values |= {"optim": optim} if optim in allowed else {}
    return Training(
        **values,
        framework=framework,
        gradient_checkpointing=on or bool(getattr(arguments, "gradient_checkpointing", False)),
        gradient_checkpointing_kwargs=CheckpointingKwargs(use_reentrant=reentrant),
        logits="chunked" if framework == "trl" else "all",
    )


def _checkpointing(base: nn.Module) -> tuple[bool, bool]:
    """Whether blocks of the model are checkpointed, and whether reentrantly."""
    functions: list[Any] = [
        getattr(module, "_gradient_checkpointing_func", None)
        for module in base.modules()
        if getattr(module, "gradient_checkpointing", False) is True
    ]
    return bool(functions), any(getattr(each, "keywords", {}).get("use_reentrant") is True for each in functions)


def _dtype(base: Any) -> Any:
    """Of what is not quantised, by most tensors."""
    counts: dict[str, int] = {}
    for parameter in base.parameters():
        if parameter.is_floating_point():
            name = str(parameter.dtype).removeprefix("torch.")
            counts[name] = counts.get(name, 0) + parameter.numel()
    found = max(counts, key=lambda name: counts[name], default="bfloat16")
    return found if found in ("bfloat16", "float16", "float32") else "bfloat16"
