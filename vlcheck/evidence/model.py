"""How evidence about the model is had: its config, family, modules, and what PEFT makes of the run's settings."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from torch import nn

from vlcheck.evidence.options import Options
from vlcheck.finding import NotApplicable, Unavailable, collector
from vlcheck.model import catalogue
from vlcheck.model.aim import aim
from vlcheck.model.attention import Requested, attention_support, head_widths
from vlcheck.model.base_weights import StoredBase
from vlcheck.model.build import (
    AdapterRefused,
    Patch,
    UnbuildableConfig,
    Weights,
    base_of,
    build_model,
    load_patch,
    transformers_config,
)
from vlcheck.model.config import ModelConfig, find_config
from vlcheck.model.families import family_of
from vlcheck.model.families.generic import derive
from vlcheck.model.family import Family
from vlcheck.model.modules import ModuleTable, tabulate
from vlcheck.model.reference import build_reference, read_stored_base
from vlcheck.model.targets import Targets, resolve
from vlcheck.model.whole import freeze_parts
from vlcheck.spec import ConfigError, Location, Lora, Problem, RunSpec

NO_ADAPTERS = "the run has no adapters: without lora every weight is trained"


@dataclass(frozen=True)
class Skeleton:
    """The run's model at full size without storage, or PEFT's reason for refusing its adapters."""

    model: nn.Module | None
    refusal: str = ""
    live: bool = False
    """The caller's own model, not one built here."""
    peft: nn.Module | None = None
    """The same model inside whatever PEFT and others put around it."""

    def refused(self, kind: str | None) -> bool:
        """Whether PEFT refuses a module of this class, rather than a parent of one, whose dump names it too."""
        return kind is not None and self.refusal.startswith(f"Target module {kind}(")


@dataclass(frozen=True)
class Attention:
    """The attention implementation that the run asks for, and which submodels accept it."""

    requested: Requested
    accepted: Mapping[str, bool]


@dataclass(frozen=True)
class Heads:
    """Attention heads of the untouched model."""

    widths: Mapping[str, Mapping[int, int]]
    """Layers by the implementation that they are asked for and the width of a head."""


@collector("finding the model's config")
def config(spec: RunSpec, options: Options) -> ModelConfig:
    """The model's config.json, from a folder, the cache, the Hub or vlcheck's catalogue, and which of these it was.

    Raises:
        ConfigError: if no place has a config of `model.id`, or it cannot be used.
    """
    return find_config(spec, offline=options.offline)


@collector("recognising the model's family")
def family(spec: RunSpec, config: ModelConfig, reference: nn.Module) -> Family:
    """The record of the model's family; for an unknown one, a record derived from its modules, with its doubt.

    Raises:
        ConfigError: if the parts of the model cannot be told apart.
    """
    try:
        return family_of(config.values)
    except LookupError:
        try:
            return derive(config.values, reference)
        except LookupError as unknown:
            raise ConfigError(Problem(spec.where("model.id"), f"{config.origin}: {unknown}")) from unknown


def model_with(processor: Any) -> str:
    """Hub id of a known model whose processor is of this class.

    Raises:
        ConfigError: if there is none.
    """
    kind = type(processor).__name__
    for entry in catalogue.entries():
        made = family_of(entry.config).fallback
        if made is not None and made.processor == kind:
            return entry.hub_id
    raise ConfigError(Problem(Location("<python>"), f"no known model has a {kind}; name one with model="))


def known_model(spec: RunSpec) -> dict[str, Any]:
    """Config and family of a model, by name of evidence, without building it; of an unknown family the config alone.

    Raises:
        ConfigError: as `config`.
    """
    found = find_config(spec, offline=True)
    with suppress(LookupError):
        return {"config": found, "family": family_of(found.values)}
    return {"config": found}


@collector("building the untouched model, full size, without storage")
def reference(spec: RunSpec, config: ModelConfig) -> nn.Module:
    """The transformers model of the config on torch's meta device: no adapters, no 4-bit layers, no bytes.

    Raises:
        ConfigError: if transformers cannot build a model from this config.
    """
    try:
        return build_reference(config.values)
    except UnbuildableConfig as error:
        message = f"{config.origin}: transformers cannot build a model from this config: {error}"
        raise ConfigError(Problem(spec.where("model.id"), message)) from error


@collector("importing the user's patch")
def patch(spec: RunSpec, options: Options, reference: nn.Module) -> Patch | None:
    """The function that `model.patch` names; None where there is none, or where the caller allows no code.

    Raises:
        ConfigError: if it cannot be imported.
    """
    if spec.model.patch is None or not options.allow_code:
        return None
    try:
        return load_patch(spec.model.patch)
    except Exception as error:  # it is the user's code
        raise _patch_failed(spec, error) from error


@collector("reading the LoRA settings")
def lora(spec: RunSpec) -> Lora:
    """The settings of the run's adapters.

    Raises:
        NotApplicable: if it has none, so that every weight is trained.
    """
    if spec.lora is None:
        raise NotApplicable(NO_ADAPTERS)
    return spec.lora


@collector("asking where the framework aims the adapters")
def aimed(spec: RunSpec, family: Family) -> RunSpec:
    """The run with the LoRA settings that its framework hands to PEFT; every model of the run is built of these."""
    return aim(spec, family)


@collector("matching target_modules and exclude_modules against every module")
def targets(lora: Lora, aimed: RunSpec, reference: nn.Module, family: Family) -> Targets:
    """The modules that the LoRA settings name, as PEFT resolves them.

    Raises:
        Unavailable: if PEFT refuses the settings.
    """
    try:
        return resolve(reference, lora, family, aimed.lora)
    except AdapterRefused as refusal:
        raise Unavailable(f"PEFT refuses the LoRA settings, see VLC102: {refusal}") from refusal


@collector("building the run's model with 4-bit layers and adapters, full size, without storage")
def skeleton(
    spec: RunSpec, aimed: RunSpec, config: ModelConfig, reference: nn.Module, family: Family, patch: Patch | None
) -> Skeleton:
    """The model that training would build, on the meta device; PEFT's refusal is a value, for the rule that reports it.

    Raises:
        ConfigError: if transformers cannot build the model, or the user's patch fails.
    """
    try:
        peft = build_model(aimed, Weights.META, config=config.values, patch=patch)
        freeze_parts(base_of(peft), aimed, family)
        return Skeleton(base_of(peft), peft=peft)
    except AdapterRefused as refusal:
        return Skeleton(None, str(refusal))
    except UnbuildableConfig as error:
        raise ConfigError(Problem(spec.where("model.id"), f"{config.origin}: {error}")) from error
    except Exception as error:
        if patch is None:
            raise
        raise _patch_failed(spec, error) from error


@collector("describing every module of the run's model")
def modules(skeleton: Skeleton, reference: nn.Module, family: Family) -> ModuleTable:
    """One row a module: part, class, number type, bytes as stored, adapter and where it sits.

    Raises:
        Unavailable: if PEFT refused the adapters, so that there is no model to describe.
    """
    if skeleton.model is None:
        raise Unavailable("PEFT refuses the adapters, see VLC101 and VLC102", "make PEFT accept the targets")
    return tabulate(skeleton.model, reference, family)


@collector("asking each submodel for the attention implementation")
def attention(spec: RunSpec, reference: nn.Module) -> Attention:
    """Which submodels accept the implementation that the run requests, by name.

    Raises:
        NotApplicable: if the run requests none.
    """
    requested = spec.model.attention
    if requested is None:
        raise NotApplicable("no attention implementation is requested; each submodel chooses its own")
    return Attention(requested, attention_support(reference, requested))


@collector("measuring the attention heads")
def heads(spec: RunSpec, reference: nn.Module) -> Heads:
    """Width of each attention head (elements) to the number of layers that have it, in the untouched model.

    Raises:
        NotApplicable: if the run requests no attention implementation.
    """
    requested = spec.model.attention
    if requested is None:
        raise NotApplicable("no attention implementation is requested; each submodel chooses its own")
    return Heads(head_widths(reference, requested))


@collector("holding the headers of the base's weights against its model")
def stored_base(spec: RunSpec, config: ModelConfig, skeleton: Skeleton) -> StoredBase:
    """What the safetensors of a base hold of its model, from their headers alone: of a folder, or of the Hub's cache.

    Raises:
        NotApplicable: if weights are random, or the model was handed in.
        Unavailable: if the base lies neither in a folder nor in the cache, or its files cannot be read.
    """
    if spec.model.weights == "random":
        raise NotApplicable("model.weights is random: no checkpoint is read")
    if skeleton.live:
        raise NotApplicable("the model that was handed in has its weights")
    if config.folder is None:
        reason = "needs weights: model.id is no local folder, and the Hugging Face cache does not hold it"
        raise Unavailable(reason, "download the checkpoint")
    try:
        return read_stored_base(config.folder, config.values, spec.model.dtype)
    except UnbuildableConfig as error:
        raise Unavailable(str(error)) from error


@collector("finding the modules whose output the model drops")
def dropped(config: ModelConfig, family: Family) -> tuple[str, ...]:
    """Prefixes of modules that the model computes without using the result; none for most families."""
    return tuple(family.dropped(transformers_config(config.values).to_dict()))


def _patch_failed(spec: RunSpec, error: Exception) -> ConfigError:
    message = f"model.patch {spec.model.patch} failed: {type(error).__name__}: {error}"
    return ConfigError(Problem(spec.where("model.patch"), message))


MODEL_COLLECTORS = (
    config,
    family,
    reference,
    patch,
    lora,
    aimed,
    targets,
    skeleton,
    modules,
    attention,
    heads,
    dropped,
    stored_base,
)
