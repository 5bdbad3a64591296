"""A run's model for evaluation: its base, and a saved adapter on it, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from vlcheck.adapters.load import ExpectedAdapter, LoadedAdapter, expect, load_into
from vlcheck.adapters.safetensors import open_regular, refusal, shown
from vlcheck.adapters.saved import SETTINGS, SavedAdapter
from vlcheck.finding import Unavailable
from vlcheck.model.build import (
    AdapterRefused,
    Patch,
    UnbuildableConfig,
    Weights,
    base_of,
    build_unadapted,
    put_adapter,
)
from vlcheck.model.family import Family, Values
from vlcheck.model.modules import ModuleTable
from vlcheck.processing.time_limit import within_limits
from vlcheck.spec import ConfigError, Lora, Problem, RunSpec

CHUNK_BYTES = 4 * 2**20
EXAMPLES = 3
COMPARED = ("r", "lora_alpha", "use_rslora", "use_dora", "bias", "rank_pattern", "alpha_pattern", "modules_to_save")
"""LoRA settings that a config and an adapter must share to mean the same run."""
PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva")
"""Values of `init_lora_weights` that leave the base as it is."""


def build_evaluated(
    spec: RunSpec,
    family: Family,
    adapter: SavedAdapter | None = None,
    *,
    config: Values,
    patch: Patch | None = None,
    device: str = "cpu",
) -> nn.Module:
    """The model that an evaluation asks: the run's base, with an adapter or without, frozen and in evaluation mode.

    Random weights are those that training began with: they are drawn from `training.seed`.

    Args:
        adapter: its own rank and targets are used, not the config's.
        config, patch, device: as `build_model`.

    Raises:
        ConfigError: if the base cannot be built, or the adapter does not fit it tensor for tensor.
    """
    weights, seed = Weights(spec.model.weights), spec.training.seed
    try:
        base = build_unadapted(spec, weights, config=config, patch=patch, device=device, seed=seed)
    except UnbuildableConfig as error:
        raise ConfigError(Problem(spec.where("model.id"), str(error))) from error
    model = base if adapter is None else attach(base, adapter, family, device=device)
    return model.requires_grad_(False).eval()


def attach(base: nn.Module, saved: SavedAdapter, family: Family, *, device: str = "cpu") -> nn.Module:
    """Attach a saved LoRA adapter: every tensor of its files is used, and every adapter weight of the model is set.

    PEFT itself loads what fits and drops the rest, with a warning at most. Nothing is unpickled.

    Args:
        base: the model without adapters.

    Returns:
        PEFT's model around the base.

    Raises:
        ConfigError: naming counts and examples of what does not fit, or what is wrong with the folder.
    """
    from peft import set_peft_model_state_dict

    expected = fit_adapter(base, saved, family, device=device)
    tensors = read_tensors(saved)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = set_peft_model_state_dict(expected.model, tensors, adapter_name=expected.name)
    required = {name for name, place in expected.places.items() if place.required}
    if unset := sorted(required & set(loaded.missing_keys)) or sorted(loaded.unexpected_keys):
        raise refusal(saved.file, f"was not loaded whole by PEFT: {_listed(unset)}")
    return expected.model


def fit_adapter(base: nn.Module, saved: SavedAdapter, family: Family, *, device: str) -> ExpectedAdapter:
    """Put PEFT's layers into a base as a saved adapter has them, once all of its tensors are known to fit; read none.

    Args:
        base: the model without adapters, live or on meta.

    Raises:
        ConfigError: as `attach`.
    """
    settings = _peft_config(saved)
    _check_patterns(saved, base)
    try:
        model = put_adapter(base, lambda: settings, device=device)
    except AdapterRefused as refused:
        raise refusal(
            saved.folder / SETTINGS, f"does not fit this model, PEFT says: {shown(str(refused))}"
        ) from refused
    expected = expect(model, ModuleTable(()), family)
    if fault := _misfit(load_into(saved, expected, family)):
        raise refusal(saved.file, f"does not fit this model: {fault}")
    return expected


def read_tensors(saved: SavedAdapter) -> dict[str, torch.Tensor]:
    """The tensors of a saved adapter, on the CPU, as far as they are looked at: files are mapped, not copied.

    Raises:
        ConfigError: if one holds a value that is not finite.
    """
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted({tensor.file for tensor in saved.tensors}):
        tensors |= load_file(file)
    if broken := [name for name, values in tensors.items() if not values.isfinite().all()]:
        raise refusal(saved.file, f"holds values that are not finite in {_listed(broken)}")
    return tensors


def differences(spec: RunSpec, saved: SavedAdapter, model: nn.Module, targeted: Sequence[str] | None) -> list[str]:
    """What the adapter says otherwise than the run's config, a sentence each; the adapter's own word counts.

    Args:
        model: with the adapter attached.
        targeted: paths of the modules that the config's settings name; None where that is not known.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    assert saved.settings is not None
    own: Lora | None = saved.settings.lora
    assert own is not None
    said = [
        f"lora.{name} is {_value(getattr(own, name))} in the adapter, {_value(getattr(spec.lora, name))} in the config"
        for name in COMPARED
        if _value(getattr(own, name)) != _value(getattr(spec.lora, name))
    ]
    if targeted is not None:
        adapted = {name for name, module in base_of(model).named_modules() if isinstance(module, BaseTunerLayer)}
        if more := adapted - set(targeted):
            said.append(f"modules that the adapter changes and the config does not name: {_listed(sorted(more))}")
        if fewer := set(targeted) - adapted:
            said.append(f"modules that the config names and the adapter leaves alone: {_listed(sorted(fewer))}")
    if saved.settings.base not in ("", spec.model.id):
        said.append(f"the adapter was trained on {shown(saved.settings.base)}, the config names {spec.model.id}")
    return said


def digest(saved: SavedAdapter) -> str:
    """SHA-256 over the adapter's settings and tensor files, in the order of their names."""
    found = hashlib.sha256()
    for file in sorted({saved.folder / SETTINGS, *(tensor.file for tensor in saved.tensors)}):
        with open_regular(file) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                found.update(chunk)
    return found.hexdigest()


def _peft_config(saved: SavedAdapter) -> Any:
    """The adapter's settings as PEFT reads them."""
    from peft import LoraConfig

    settings = saved.settings
    if settings is None:
        raise refusal(saved.folder, f"holds no {SETTINGS}, which says how the adapter is attached")
    if settings.lora is None:
        raise refusal(settings.file, f"describes a {shown(settings.peft_type)} adapter; allowed: LORA")
    if not saved.tensors:
        raise refusal(saved.file, "holds no tensor")
    start = json.loads(settings.file.read_text("utf-8")).get("init_lora_weights", True)
    if start not in PLAIN_STARTS:
        raise refusal(
            settings.file,
            f"has init_lora_weights {shown(str(start))}, which changes the base; convert the adapter to plain LoRA "
            "when it is saved (path_initial_model_for_weight_conversion)",
        )
    try:
        return LoraConfig.from_pretrained(str(saved.folder), inference_mode=True)
    except (ValueError, TypeError, KeyError) as refused:
        raise refusal(settings.file, f"is refused by PEFT: {shown(str(refused))}") from refused


def _check_patterns(saved: SavedAdapter, base: nn.Module) -> None:
    """Try an adapter's regexes on the model's module names, where a match that never ends can be ended.

    Raises:
        ConfigError: if one is no regex, or does not come to an end.
    """
    assert saved.settings is not None
    lora = saved.settings.lora
    assert lora is not None
    given = [lora.target_modules, lora.exclude_modules, lora.layers_pattern, *lora.rank_pattern, *lora.alpha_pattern]
    patterns = [pattern for pattern in given if isinstance(pattern, str) and pattern != "all-linear"]
    file = saved.folder / SETTINGS
    for pattern in patterns:
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as fault:
            raise refusal(file, f"holds {shown(pattern)!r}, which is no regex: {fault}") from fault
    names = [name for name, _ in base.named_modules()]
    if patterns:
        try:
            within_limits(lambda: [re.fullmatch(p, name) for p in patterns for name in names], "a regex")
        except Unavailable as endless:
            raise refusal(file, f"holds {shown(patterns[0])!r}: {endless.reason}") from endless


def _misfit(loaded: LoadedAdapter) -> str:
    """What of an adapter does not fit, in one sentence; empty if all of it does."""
    if loaded.refusal:
        return f"PEFT refuses it: {shown(loaded.refusal)}"
    faults = []
    if loaded.unexpected:
        names = [fitted.tensor.name for fitted in loaded.unexpected]
        listed = _listed(names, counted=False)
        faults.append(f"{len(names)} of its {len(loaded.tensors)} tensors have no place ({listed})")
    if loaded.missing:
        names = [place.key for place in loaded.missing]
        faults.append(f"{len(names)} adapter weights of the model are not in it ({_listed(names, counted=False)})")
    sizes = [
        f"{fitted.tensor.name}: {list(fitted.tensor.shape)} in the file, {list(fitted.place.shape)} in the model"
        for fitted in loaded.tensors
        if fitted.place is not None and not fitted.joined and fitted.tensor.shape != fitted.place.shape
    ]
    if sizes:
        faults.append(f"{len(sizes)} tensors have another shape ({_listed(sizes, counted=False)})")
    return "; ".join(faults)


def _listed(names: Sequence[str], *, counted: bool = True) -> str:
    some = ", ".join(map(shown, names[:EXAMPLES]))
    dots = ", ..." if len(names) > EXAMPLES else ""
    return f"{len(names)} ({some}{dots})" if counted else f"{some}{dots}"


def _value(value: Any) -> Any:
    if value in (None, (), {}, []):
        return None
    return sorted(value) if isinstance(value, tuple | list) else value
