"""Build the model of a run: architecture, 4-bit layers, adapters. Audit and training share it.

Private names of other libraries are touched in this file, `quantising` and `reference` only, each with its reason.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import warnings
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedConfig
from transformers.initialization import no_init_weights, no_tie_weights

from vlcheck.finding import Unavailable
from vlcheck.model.base_weights import misfits, not_a_number
from vlcheck.model.family import Values
from vlcheck.model.quantising import expanded_on_meta, quantise, quantization_config
from vlcheck.model.random_weights import materialise
from vlcheck.spec import Lora, RunSpec

Patch: TypeAlias = Callable[..., Any]


class Weights(Enum):
    """What a model's tensors hold."""

    META = "meta"  # full size, no storage
    RANDOM = "random"  # drawn on the device, quantised layer by layer
    PRETRAINED = "pretrained"  # read from safetensors


class AdapterRefused(Exception):
    """PEFT does not attach these adapters; the message is PEFT's own. Such a run never starts."""


class UnbuildableConfig(Exception):
    """transformers cannot build a model from this config; the message says why."""


def build_model(
    spec: RunSpec,
    weights: Weights,
    *,
    config: Values,
    patch: Patch | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> nn.Module:
    """The model that the run trains: base, user's patch, 4-bit layers, adapters, in this order.

    Without `spec.lora` every weight requires gradients; `vlcheck.model.whole.freeze_parts` knows the exceptions.

    Args:
        weights, config, patch, device, seed: as `build_unadapted`.

    Raises:
        AdapterRefused: if PEFT rejects the targets.
        UnbuildableConfig: if the base cannot be built or its weights cannot be loaded.
    """
    if weights is not Weights.META:
        base = build_unadapted(spec, weights, config=config, patch=patch, device=device, seed=seed)
        return base if spec.lora is None else adapt(base, spec.lora, device=device)
    with no_init_weights():  # nothing can be drawn without storage, and PEFT would spend a fifth of its time on it
        base = build_unadapted(spec, weights, config=config, patch=patch)
        return base if spec.lora is None else adapt(base, spec.lora, device="meta")


def build_unadapted(
    spec: RunSpec,
    weights: Weights,
    *,
    config: Values,
    patch: Patch | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> nn.Module:
    """The model that adapters are attached to: base, user's patch, 4-bit layers.

    Args:
        weights: META takes no storage; RANDOM never holds more than one layer unquantised; PRETRAINED
            reads the safetensors of `spec.model`, shard by shard, and nothing else.
        config: the model's config.json.
        patch: the user's monkeypatch. Without parameters it is called before the base is built, to
            change classes; with one parameter it is called with the quantised base and may return a
            replacement.
        device: where RANDOM and PRETRAINED tensors live.
        seed: of RANDOM weights; equal seeds give equal weights on equal devices and versions.

    Raises:
        UnbuildableConfig: if the base cannot be built or its weights cannot be loaded.
    """
    if patch is not None and not takes_model(patch):
        patch()
    base: Any
    if weights is Weights.PRETRAINED:
        base = load_base(spec, device)
    else:
        # As in from_pretrained: the quantiser skips the last module that owns weights, and a head that was
        # tied before would not be it.
        with no_tie_weights():
            base = quantise(build_base(config, dtype=spec.model.dtype), spec.quantization, dtype=spec.model.dtype)
        base.tie_weights()
        if weights is Weights.RANDOM:
            materialise(base, device, seed)
    if patch is not None and takes_model(patch):
        base = patch(base) or base
    return base  # type: ignore[no-any-return]


def takes_model(patch: Patch) -> bool:
    """Whether a patch changes a model that exists, rather than the classes that the next one is made of."""
    return bool(inspect.signature(patch).parameters)


def build_base(config: Values, *, dtype: str = "bfloat16") -> nn.Module:
    """The architecture alone, on meta, from the real transformers classes.

    The attention implementation is left to each submodel: it changes no module, and asking for one
    that a submodel lacks would end the build (see `vlcheck.model.attention`).

    Raises:
        UnbuildableConfig: if transformers rejects the config.
    """
    try:
        with torch.device("meta"):
            model: nn.Module = AutoModelForImageTextToText.from_config(
                transformers_config(config), dtype=getattr(torch, dtype)
            )
    except Exception as error:  # whatever a foreign config provokes
        raise UnbuildableConfig(f"{type(error).__name__}: {' '.join(str(error).split())}") from error
    return model


def transformers_config(config: Values) -> PreTrainedConfig:
    """The transformers object of a config.json.

    Raises:
        UnbuildableConfig: if the installed version does not know the model type or rejects a value.
    """
    values = dict(config)
    try:
        return AutoConfig.for_model(values.pop("model_type"), **values)
    except Exception as error:
        raise UnbuildableConfig(f"{type(error).__name__}: {error}") from error


def load_base(spec: RunSpec, device: str) -> nn.Module:
    """The base with the weights of `spec.model`, from safetensors and without remote code.

    Raises:
        UnbuildableConfig: if there are no safetensors, they are not exactly the model's weights, or one holds a NaN.
    """
    folder = Path(spec.model.id).expanduser()
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        others = sorted(file.name for file in folder.iterdir() if file.suffix in (".bin", ".pt", ".pth", ".pkl"))
        hint = f"; {others[0]} is a pickle, which vlcheck never loads" if others else ""
        raise UnbuildableConfig(f"{folder} holds no *.safetensors{hint}")
    try:
        model: nn.Module
        model, told = AutoModelForImageTextToText.from_pretrained(
            folder if folder.is_dir() else spec.model.id,
            revision=spec.model.revision or "main",
            dtype=getattr(torch, spec.model.dtype),
            quantization_config=spec.quantization and quantization_config(spec.quantization),
            attn_implementation=spec.model.attention,
            device_map=device,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told like every other misfit, and refused below
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise UnbuildableConfig(f"{spec.model.id} cannot be loaded: {type(error).__name__}: {error}") from error
    if fault := misfits(told):
        raise UnbuildableConfig(f"{spec.model.id} does not hold this model's weights: {fault}")
    if broken := not_a_number(model):
        raise UnbuildableConfig(f"{spec.model.id} holds weights that are not a number: {', '.join(broken[:3])}")
    return model


def adapt(model: nn.Module, lora: Lora, *, device: str) -> nn.Module:
    """Freeze the base and attach LoRA with PEFT.

    Raises:
        AdapterRefused: if PEFT rejects the settings or the targets.
    """
    model.requires_grad_(False)
    return put_adapter(model, lambda: lora_config(lora), device=device)


def put_adapter(model: nn.Module, settings: Callable[[], Any], *, device: str) -> nn.Module:
    """Put PEFT's layers into a model, on a device and without a warning.

    Args:
        settings: makes PEFT's config, which may refuse its values.

    Raises:
        AdapterRefused: if PEFT rejects the settings or the targets.
    """
    from peft import get_peft_model

    try:
        with torch.device(device), warnings.catch_warnings(), expanded_on_meta():
            warnings.simplefilter("ignore")
            adapted: nn.Module = get_peft_model(model, settings())
    except (ValueError, TypeError, KeyError, AttributeError, re.error) as refusal:
        raise AdapterRefused(str(refusal)) from refusal
    return adapted


def lora_config(lora: Lora) -> Any:
    """PEFT's `LoraConfig` of a run.

    Raises:
        ValueError, TypeError: if PEFT rejects the values.
    """
    from peft import LoraConfig

    values = {field.name: getattr(lora, field.name) for field in dataclasses.fields(lora)}
    for name, value in values.items():
        if isinstance(value, tuple):
            values[name] = list(value)
        elif isinstance(value, Mapping):
            values[name] = dict(value)
    return LoraConfig(**values)


def base_of(model: nn.Module) -> nn.Module:
    """The transformers model inside PEFT, DDP, FSDP or torch.compile."""
    while True:
        inner: Any = getattr(model, "_orig_mod", None) or model._modules.get("module")
        unwrap: Any = getattr(model, "get_base_model", None)
        if inner is None and unwrap is not None:
            inner = unwrap()
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def check_patch(spec: RunSpec, *, allow_code: bool) -> None:
    """Refuse to run a model without the patch that its config names; an audit may, and says so.

    Raises:
        Unavailable: where the user has not allowed their code to run.
    """
    if spec.model.patch is not None and not allow_code:
        raise Unavailable(f"model.patch {spec.model.patch} changes the model", "run again with --allow-code")


def load_patch(name: str) -> Patch:
    """Import the user's `package.module:function`. Only called where the user allowed their code.

    Raises:
        ImportError, AttributeError: if there is no such function.
    """
    module, _, function = name.partition(":")
    found: Patch = getattr(importlib.import_module(module), function)
    return found
