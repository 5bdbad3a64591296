"""Which modules a run's LoRA settings name, before PEFT touches any: hits, misses, and the remedy."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from vlcheck.model.aim import ALL_LINEAR
from vlcheck.model.build import AdapterRefused, base_of, lora_config
from vlcheck.model.family import Family, Part
from vlcheck.spec import Lora


@dataclass(frozen=True)
class Targets:
    """What `target_modules` and `exclude_modules` match in the untouched base."""

    modules: Mapping[str, str]
    """Path of each targeted module to its class name."""
    wrappers: tuple[str, ...]
    """Targeted modules that are clip wrappers, which PEFT cannot adapt."""
    unmatched: Mapping[str, str]
    """Config key of each entry that matches nothing (`lora.target_modules.2`) to the entry."""
    idle_excludes: Mapping[str, str]
    """Config key of each exclude entry that removes no targeted module to the entry."""
    entries: int
    """Target, exclude and save entries looked at."""
    default: str | tuple[str, ...] | None = None
    """PEFT's own targets, where the run names none."""


def resolve(base: nn.Module, lora: Lora, family: Family, handed: Lora | None = None) -> Targets:
    """Match the run's entries against every module path, with PEFT's own matcher.

    Args:
        lora: as the run's description has it, whose entries are told of.
        handed: as the run's framework hands it to PEFT (`vlcheck.model.aim`), where that differs.

    Raises:
        AdapterRefused: if PEFT rejects the settings before it looks at any module.
    """
    try:
        config = lora_config(handed or lora)
    except (ValueError, TypeError) as refusal:
        raise AdapterRefused(str(refusal)) from refusal
    modules = {name: type(module).__name__ for name, module in base.named_modules() if name}
    default = None
    if config.target_modules is None and not config.target_parameters:
        default = config.target_modules = _peft_default(base)
    if isinstance(config.target_modules, str) and config.target_modules.lower() == ALL_LINEAR:
        config.target_modules = linears(base)
    included = _matching(modules, config, exclude_modules=None)
    targeted = _matching(included, config) if config.exclude_modules else included
    return Targets(
        modules={name: modules[name] for name in targeted},
        wrappers=tuple(name for name in targeted if modules[name] == family.clip_wrapper),
        unmatched=dict(_unmatched(modules, lora)),
        idle_excludes={
            key: entry
            for key, entry in _entries("lora.exclude_modules", lora.exclude_modules)
            if len(_matching(included, config, exclude_modules=_as_written(lora.exclude_modules, entry)))
            == len(included)
        },
        entries=sum(1 for _ in _all_entries(lora)),
        default=default if default is None or isinstance(default, str) else tuple(sorted(default)),
    )


def adapted_by(base: nn.Module, lora: Lora, regex: str) -> list[str]:
    """Modules that a regex would adapt in this base; a check that advice works before it is given."""
    config = lora_config(replace(lora, target_modules=regex, exclude_modules=None))
    return _matching({name: "" for name, _ in base.named_modules() if name}, config)


def parts_by_path(base: nn.Module, family: Family) -> dict[str, Part | None]:
    """The part of every module: by its path, or by the class of the innermost module that has a part of its own."""
    parts: dict[str, Part | None] = {}
    inner: dict[str, Part] = {}
    for name, module in base.named_modules():
        if not name:
            continue
        own = family.part_classes.get(type(module).__name__)
        above = inner.get(name.rpartition(".")[0])
        if held := own or above:
            inner[name] = held
        parts[name] = held or family.part_of(name)
    return parts


def linears(base: nn.Module) -> set[str]:
    """What `all-linear` adapts: every linear layer but the head."""
    head = base.get_output_embeddings()  # type: ignore[operator]
    return {name for name, module in base.named_modules() if isinstance(module, nn.Linear) and module is not head}


def _matching(names: Iterable[str], config: Any, **changes: Any) -> list[str]:
    """The names that PEFT matches; it holds each against one target after another, so those that end in none go by."""
    from peft.tuners.tuners_utils import check_target_module_exists

    changed, targets = _with(config, changes), config.target_modules
    if targets is not None and not isinstance(targets, str):
        ends = tuple(f".{target}" for target in targets)
        names = [name for name in names if name in targets or name.endswith(ends)]
    return [name for name in names if check_target_module_exists(changed, name)]


def _with(config: Any, changes: Mapping[str, Any]) -> Any:
    changed = copy.copy(config)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


def _peft_default(base: nn.Module) -> Any:
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as DEFAULTS

    kind = base_of(base).config.model_type  # type: ignore[union-attr]
    if kind not in DEFAULTS:
        raise AdapterRefused(f"Please specify `target_modules`: PEFT has no default for model type {kind!r}")
    default = DEFAULTS[kind]
    return default if isinstance(default, str) else set(default)


def _unmatched(modules: Mapping[str, str], lora: Lora) -> Iterable[tuple[str, str]]:
    for key, entry in _all_entries(lora):
        if key.startswith("lora.exclude_modules"):
            continue
        whole = key == "lora.target_modules"  # a regex for the whole path, or the shorthand
        hit = (
            entry.lower() == ALL_LINEAR or any(re.fullmatch(entry, name) for name in modules)
            if whole
            else any(name == entry or name.endswith(f".{entry}") for name in modules)
        )
        if not hit:
            yield key, entry


def _all_entries(lora: Lora) -> Iterable[tuple[str, str]]:
    yield from _entries("lora.target_modules", lora.target_modules)
    yield from _entries("lora.exclude_modules", lora.exclude_modules)
    yield from _entries("lora.modules_to_save", lora.modules_to_save)


def _entries(key: str, written: str | tuple[str, ...] | None) -> Iterable[tuple[str, str]]:
    if isinstance(written, str):
        yield key, written
    else:
        yield from ((f"{key}.{index}", entry) for index, entry in enumerate(written or ()))


def _as_written(written: str | tuple[str, ...] | None, entry: str) -> str | list[str]:
    return entry if isinstance(written, str) else [entry]
