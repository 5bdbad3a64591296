"""How evidence about a saved adapter is had: what PEFT would save of the run, and what it makes of the files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from vlcheck.adapters.load import ExpectedAdapter, LoadedAdapter, expect, is_peft, load_into
from vlcheck.adapters.safetensors import Extent, read_extents
from vlcheck.adapters.saved import SavedAdapter
from vlcheck.evidence.model import Skeleton
from vlcheck.finding import NotApplicable, Unavailable, collector
from vlcheck.model.bounded_regex import full_matches
from vlcheck.model.build import AdapterRefused
from vlcheck.model.family import Family
from vlcheck.model.modules import ModuleTable
from vlcheck.model.targets import resolve
from vlcheck.spec import Lora, RunSpec


@collector("asking PEFT which tensors it would save of the run's model")
def expected_adapter(lora: Lora, skeleton: Skeleton, modules: ModuleTable, family: Family) -> ExpectedAdapter:
    """Names, shapes and number types of the tensors that `save_pretrained` would write for this run.

    Raises:
        Unavailable: if the model that was handed in is not inside PEFT's.
    """
    if skeleton.peft is None or not is_peft(skeleton.peft):
        raise Unavailable("the model that was handed in is not inside PEFT's", "hand in what get_peft_model returned")
    return expect(skeleton.peft, modules, family)


@collector("letting PEFT load the adapter's tensors without storage")
def loaded_adapter(saved_adapter: SavedAdapter, expected_adapter: ExpectedAdapter, family: Family) -> LoadedAdapter:
    """What PEFT makes of the saved names: which it takes, which it misses, which it passes over."""
    return load_into(saved_adapter, expected_adapter, family)


@collector("matching the adapter's own list of targets")
def saved_targets(
    lora: Lora,
    aimed: RunSpec,
    saved_adapter: SavedAdapter,
    expected_adapter: ExpectedAdapter,
    reference: nn.Module,
    family: Family,
) -> frozenset[str] | None:
    """Modules that the saved `target_modules` name in the untouched model; None where it is a regex, or not stated.

    A regex in a stranger's file is not run: it can take forever.
    """
    settings = saved_adapter.settings.lora if saved_adapter.settings else None
    names = settings.target_modules if settings else None
    if names is None or isinstance(names, str):
        return None
    own = frozenset(names) == expected_adapter.target_modules
    try:
        named = (own and aimed.lora) or replace(lora, target_modules=names)
        return frozenset(resolve(reference, named, family).modules)
    except AdapterRefused:
        return frozenset()


@collector("matching the adapter's own targets against every module")
def saved_matches(saved_adapter: SavedAdapter, reference: nn.Module) -> Mapping[str, str] | None:
    """Modules that `target_modules` of adapter_config.json matches in the untouched model, each with its class.

    A regex is matched in a process of its own; None where that took too long.

    Raises:
        NotApplicable: if adapter_config.json names no targets.
    """
    settings = saved_adapter.settings.lora if saved_adapter.settings else None
    names = settings.target_modules if settings else None
    if names is None:
        raise NotApplicable("adapter_config.json names no target_modules")
    kinds = {name: type(module).__name__ for name, module in reference.named_modules() if name}
    if isinstance(names, str):
        matched = full_matches(names, kinds)
        return None if matched is None else {name: kind for name, kind in kinds.items() if name in matched}
    ends = tuple(f".{name}" for name in names)
    return {name: kind for name, kind in kinds.items() if f".{name}".endswith(ends)}


@collector("reading the adapter's tensors")
def extents(saved_adapter: SavedAdapter) -> Mapping[str, Extent]:
    """Least and greatest value of every saved tensor by its name, both NaN where it holds one."""
    return read_extents(saved_adapter.tensors)


SAVED_COLLECTORS = (expected_adapter, loaded_adapter, saved_targets, saved_matches, extents)
