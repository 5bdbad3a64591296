"""How each piece of evidence is had: one function a name, naming its own evidence as parameters.

What cannot be had raises `Unavailable`, which skips the rules that need it; what a rule could not judge
in any case raises `NotApplicable`; a description that is of no use to any rule raises `ConfigError`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from vlcheck.adapters.load import ExpectedAdapter, LoadedAdapter, expect, is_peft, load_into
from vlcheck.adapters.safetensors import Extent, read_extents
from vlcheck.adapters.saved import SavedAdapter
from vlcheck.data.duplicates import Duplicates, find_duplicates
from vlcheck.data.scan import Scan, scan_data
from vlcheck.evidence.labels import LABEL_COLLECTORS
from vlcheck.evidence.memory import MEMORY_COLLECTORS
from vlcheck.evidence.options import Options
from vlcheck.finding import NotApplicable, Unavailable
from vlcheck.model.base_weights import StoredBase
from vlcheck.model.build import (
    AdapterRefused,
    Patch,
    UnbuildableConfig,
    Weights,
    attention_support,
    base_of,
    build_model,
    build_reference,
    load_patch,
    read_stored_base,
    transformers_config,
)
from vlcheck.model.clip_behaviour import Behaviour, Containment, PowerlessProbe, behave, contain
from vlcheck.model.clip_bounds import StoredBounds, read_bounds
from vlcheck.model.config import ModelConfig, find_config
from vlcheck.model.families import family_of
from vlcheck.model.families.generic import derive
from vlcheck.model.family import CLIP_BOUNDS, Family
from vlcheck.model.modules import ModuleTable, holds_adapter, tabulate
from vlcheck.model.targets import Targets, resolve
from vlcheck.model.tiny_run import Reach, TinyRun, cache_gap, gradient_reach, shrink
from vlcheck.spec import ConfigError, Problem, RunSpec


@dataclass(frozen=True)
class Skeleton:
    """The run's model at full size without storage, or PEFT's reason for refusing its adapters."""

    model: nn.Module | None
    refusal: str = ""
    live: bool = False
    """The caller's own model, not one built here."""
    peft: nn.Module | None = None
    """The same model inside whatever PEFT and others put around it."""


@dataclass(frozen=True)
class Attention:
    """The attention implementation that the run asks for, and which submodels accept it."""

    requested: str
    accepted: Mapping[str, bool]


@dataclass(frozen=True)
class Heads:
    """Attention heads of the untouched model: width to number of layers."""

    widths: Mapping[int, int]


@dataclass(frozen=True)
class CacheEffect:
    """What switching the key and value cache off does to the tiny run's logits."""

    largest: float
    logits: int
    shared_layers: int


@dataclass(frozen=True)
class TinyAttempt:
    """The probe's tiny run, or why there is none."""

    run: TinyRun | None
    problem: str = ""


@dataclass(frozen=True)
class Wrappers:
    """Clip wrappers of the untouched model, live or not: path to input width."""

    all: Mapping[str, int]
    clipping: Mapping[str, int]
    """Those that hold bounds."""


def config(spec: RunSpec, options: Options) -> ModelConfig:
    """Finding the model's config."""
    return find_config(spec, offline=options.offline)


def family(spec: RunSpec, config: ModelConfig, reference: nn.Module) -> Family:
    """Recognising the model's family."""
    try:
        return family_of(config.values)
    except LookupError:
        try:
            return derive(config.values, reference)
        except LookupError as unknown:
            raise ConfigError(Problem(spec.where("model.id"), f"{config.origin}: {unknown}")) from unknown


def reference(spec: RunSpec, config: ModelConfig) -> nn.Module:
    """Building the untouched model, full size, without storage."""
    try:
        return build_reference(config.values)
    except UnbuildableConfig as error:
        message = f"{config.origin}: transformers cannot build a model from this config: {error}"
        raise ConfigError(Problem(spec.where("model.id"), message)) from error


def patch(spec: RunSpec, options: Options, reference: nn.Module) -> Patch | None:
    """Importing the user's patch."""
    if spec.model.patch is None or not options.allow_code:
        return None
    try:
        return load_patch(spec.model.patch)
    except Exception as error:  # it is the user's code
        raise _patch_failed(spec, error) from error


def targets(spec: RunSpec, reference: nn.Module, family: Family) -> Targets:
    """Matching target_modules and exclude_modules against every module."""
    try:
        return resolve(reference, spec.lora, family)
    except AdapterRefused as refusal:
        raise Unavailable(f"PEFT refuses the LoRA settings, see VLC102: {refusal}") from refusal


def skeleton(spec: RunSpec, config: ModelConfig, reference: nn.Module, patch: Patch | None) -> Skeleton:
    """Building the run's model with 4-bit layers and adapters, full size, without storage."""
    try:
        peft = build_model(spec, Weights.META, config=config.values, patch=patch)
        return Skeleton(base_of(peft), peft=peft)
    except AdapterRefused as refusal:
        return Skeleton(None, str(refusal))
    except UnbuildableConfig as error:
        raise ConfigError(Problem(spec.where("model.id"), f"{config.origin}: {error}")) from error
    except Exception as error:
        if patch is None:
            raise
        raise _patch_failed(spec, error) from error


def modules(skeleton: Skeleton, reference: nn.Module, family: Family) -> ModuleTable:
    """Describing every module of the run's model."""
    if skeleton.model is None:
        raise Unavailable("PEFT refuses the adapters, see VLC101 and VLC102", "make PEFT accept the targets")
    return tabulate(skeleton.model, reference, family)


def attention(spec: RunSpec, reference: nn.Module) -> Attention:
    """Asking each submodel for the attention implementation."""
    requested = spec.model.attn_implementation
    if requested is None:
        raise NotApplicable("no attention implementation is requested; each submodel chooses its own")
    return Attention(requested, attention_support(reference, requested))


def heads(reference: nn.Module) -> Heads:
    """Measuring the attention heads."""
    widths = (getattr(module, "head_dim", None) for module in reference.modules() if list(module.parameters()))
    return Heads(Counter(width for width in widths if isinstance(width, int)))


def tiny(spec: RunSpec, config: ModelConfig, family: Family, modules: ModuleTable, patch: Patch | None) -> TinyAttempt:
    """Building the same run in miniature."""
    try:
        return TinyAttempt(shrink(spec, config.values, family, modules, patch))
    except (AdapterRefused, UnbuildableConfig) as error:
        return TinyAttempt(None, f"the miniature of this run cannot be built: {error}")


def reach(spec: RunSpec, tiny: TinyAttempt, family: Family, modules: ModuleTable) -> Reach:
    """Taking one step of the miniature, to see which adapters get a gradient."""
    if tiny.run is None:
        raise Unavailable(tiny.problem)
    try:
        return gradient_reach(tiny.run, spec, family, modules)
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        raise Unavailable(f"the miniature's step failed: {type(error).__name__}: {error}") from error


def cache_effect(tiny: TinyAttempt, family: Family) -> CacheEffect:
    """Comparing logits with and without the cache."""
    if tiny.run is None:
        raise Unavailable(tiny.problem)
    shared = int(tiny.run.config.get("text_config", {}).get("num_kv_shared_layers") or 0)
    if not shared:
        return CacheEffect(0.0, 0, 0)
    largest, logits = cache_gap(tiny.run, family)
    return CacheEffect(largest, logits, shared)


def wrappers(family: Family, reference: nn.Module) -> Wrappers:
    """Finding the clip wrappers of the untouched model."""
    if family.clip_wrapper is None:
        raise NotApplicable(f"{family.name} has no clip wrappers")
    found = {n: m for n, m in reference.named_modules() if type(m).__name__ == family.clip_wrapper}
    widths = {name: module.linear.in_features for name, module in found.items()}
    return Wrappers(widths, {n: widths[n] for n, m in found.items() if hasattr(m, CLIP_BOUNDS[0])})


def clipped(wrappers: Wrappers) -> Mapping[str, int]:
    """Finding the wrappers that hold bounds."""
    if not wrappers.clipping:
        raise NotApplicable(
            f"clipping is inactive for this checkpoint: none of {len(wrappers.all)} wrappers has bounds"
        )
    return wrappers.clipping


def containment(clipped: Mapping[str, int], skeleton: Skeleton, modules: ModuleTable, tiny: TinyAttempt) -> Containment:
    """Calling every clip wrapper with a large input and a large delta."""
    live = skeleton.model
    if skeleton.live and live is not None and not any(p.is_meta for p in live.parameters()):
        subjects = {name: (live.get_submodule(name), width) for name, width in clipped.items()}
        behaviours, unmeasured = _measured(subjects)
        return contain(modules, behaviours, len(behaviours), unmeasured)
    if tiny.run is None:
        return contain(modules, {}, unmeasured=tiny.problem)
    named = {name: tiny.run.tiny_name(name) for name in clipped}
    widths = {n: m for n, m in build_reference(tiny.run.config).named_modules() if n in set(named.values())}
    subjects = {n: (tiny.run.model.get_submodule(n), m.linear.in_features) for n, m in widths.items()}
    behaviours, unmeasured = _measured(subjects)
    holding = {name for name, (module, _) in subjects.items() if holds_adapter(module)}
    return contain(
        modules,
        {
            row.name: behaviours[named[row.name]]
            for row in modules.where(clipped=True)
            if named[row.name] in behaviours and row.adapted == (named[row.name] in holding)
        },
        len(behaviours),
        unmeasured,
    )


def bounds(spec: RunSpec, clipped: Mapping[str, int], config: ModelConfig) -> StoredBounds:
    """Reading clip bounds from the checkpoint."""
    if spec.model.weights == "random":
        raise NotApplicable("model.weights is random: no checkpoint is read, so no stored bounds are used")
    return read_bounds(config.folder, list(clipped))


def stored_base(spec: RunSpec, config: ModelConfig, skeleton: Skeleton) -> StoredBase:
    """Holding the headers of the base's weights against its model."""
    if spec.model.weights == "random":
        raise NotApplicable("model.weights is random: no checkpoint is read")
    if skeleton.live:
        raise NotApplicable("the model that was handed in has its weights")
    if not Path(spec.model.id).expanduser().is_dir():
        raise Unavailable("needs weights: model.id is no local folder", "download the checkpoint")
    try:
        return read_stored_base(spec, config.values)
    except UnbuildableConfig as error:
        raise Unavailable(str(error)) from error


def expected_adapter(skeleton: Skeleton, modules: ModuleTable, family: Family) -> ExpectedAdapter:
    """Asking PEFT which tensors it would save of the run's model."""
    if skeleton.peft is None or not is_peft(skeleton.peft):
        raise Unavailable("the model that was handed in is not inside PEFT's", "hand in what get_peft_model returned")
    return expect(skeleton.peft, modules, family)


def loaded_adapter(saved_adapter: SavedAdapter, expected_adapter: ExpectedAdapter, family: Family) -> LoadedAdapter:
    """Letting PEFT load the adapter's tensors without storage."""
    return load_into(saved_adapter, expected_adapter, family)


def saved_targets(
    spec: RunSpec, saved_adapter: SavedAdapter, expected_adapter: ExpectedAdapter, reference: nn.Module, family: Family
) -> frozenset[str] | None:
    """Matching the adapter's own list of targets; a regex of a stranger is not run."""
    settings = saved_adapter.settings.lora if saved_adapter.settings else None
    names = settings.target_modules if settings else None
    if names is None or isinstance(names, str):
        return None
    if frozenset(names) == expected_adapter.target_modules:
        names = spec.lora.target_modules
    try:
        return frozenset(resolve(reference, replace(spec.lora, target_modules=names), family).modules)
    except AdapterRefused:
        return frozenset()


def extents(saved_adapter: SavedAdapter) -> Mapping[str, Extent]:
    """Reading the adapter's tensors."""
    return read_extents(saved_adapter.tensors)


def dropped(config: ModelConfig, family: Family) -> tuple[str, ...]:
    """Finding the modules whose output the model drops."""
    return tuple(family.dropped(transformers_config(config.values).to_dict()))


def scan(spec: RunSpec, options: Options, progress: Callable[[str], None]) -> Scan:
    """Scanning the run's images."""
    return scan_data(spec.data, offline=options.offline or not options.stream, progress=progress)


def duplicates(scan: Scan) -> Duplicates:
    """Comparing the images of both splits."""
    return find_duplicates(scan)


def _measured(subjects: Mapping[str, tuple[nn.Module, int]]) -> tuple[dict[str, Behaviour], str]:
    behaviours, unmeasured = {}, ""
    for name, (module, width) in subjects.items():
        try:
            behaviours[name] = behave(module, width)
        except PowerlessProbe as powerless:
            unmeasured = f"{name}: {powerless}"
    return behaviours, unmeasured


def _patch_failed(spec: RunSpec, error: Exception) -> ConfigError:
    message = f"model.patch {spec.model.patch} failed: {type(error).__name__}: {error}"
    return ConfigError(Problem(spec.where("model.patch"), message))


COLLECTORS: Mapping[str, Callable[..., Any]] = {
    collector.__name__: collector
    for collector in (
        config, family, reference, patch, targets, skeleton, modules, attention, tiny, reach, wrappers, clipped,
        containment, bounds, stored_base,
        heads,
        cache_effect, expected_adapter, loaded_adapter, saved_targets, extents, dropped,
        scan, duplicates, *LABEL_COLLECTORS, *MEMORY_COLLECTORS,
    )
}  # fmt: skip
