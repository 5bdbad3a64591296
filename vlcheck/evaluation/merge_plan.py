"""What a merge will do, known before a byte is written: which tensors change, and what speaks against it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vlcheck.adapters.changes import Change, changes_of, share_ties
from vlcheck.adapters.load import PREFIX, arrivals
from vlcheck.adapters.safetensors import FLOATS, StoredTensor, open_regular, read_header, read_json, refusal, shown
from vlcheck.adapters.saved import SavedAdapter
from vlcheck.adapters.shards import fault_of
from vlcheck.evaluation.attach import fit_adapter, read_tensors
from vlcheck.evidence.resolve import Evidence
from vlcheck.finding import Unavailable
from vlcheck.model.base_weights import INDEX, PACKED, weight_files
from vlcheck.model.build import Weights, base_of, build_unadapted
from vlcheck.model.config import ModelConfig, find_config
from vlcheck.model.family import CLIP_BOUNDS, Family
from vlcheck.model.reference import read_stored_base
from vlcheck.model.stored_names import StoredPlace, stored_places
from vlcheck.spec import ConfigError, Problem, RunSpec
from vlcheck.training.content import base_digest, digest_of
from vlcheck.training.manifest import BrokenCheckpoint, read_manifest

ELSEWHERE = "download the checkpoint, or name the folder of the base in 16 bits with --base"


@dataclass(frozen=True)
class MergePlan:
    """A base, an adapter, and what the adapter changes of the base's files."""

    spec: RunSpec
    """Of the merged model: the run's, unquantised, its base where the files lie, in the number type that they have."""
    config: ModelConfig
    family: Family
    saved: SavedAdapter
    base: Path
    """Folder of the base."""
    files: tuple[Path, ...]
    """The base's weights."""
    changes: Mapping[str, Change]
    """By key of the files."""
    outside: tuple[str, ...]
    """Clip wrappers around which the adapter was trained: merged, its delta is clamped."""
    notes: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Of the base's weights."""
        return sum(file.stat().st_size for file in self.files)


def merged_spec(spec: RunSpec, base: Path | None) -> RunSpec:
    """The run of the merged model: its base, unquantised.

    Args:
        base: folder of the base in 16 bits, where the config names another.

    Raises:
        ConfigError: if the run's base is nowhere on a disk.
    """
    if base is None and spec.model.weights == "random":
        message = "model.weights is random: there is no base to merge into; name the folder of one with --base"
        raise ConfigError(Problem(spec.where("model.weights"), message))
    model = spec.model if base is None else replace(spec.model, id=str(base), revision=None)
    return replace(spec, model=replace(model, weights="pretrained"), quantization=None)


def plan_merge(spec: RunSpec, merged: RunSpec, saved: SavedAdapter, evidence: Evidence, *, other: bool) -> MergePlan:
    """Find out what a merge changes, from the files' headers and PEFT's own layers, on meta.

    Args:
        spec: the run, whose config may name another base.
        merged: as `merged_spec` made it.
        evidence: of `merged`.
        other: merge though the adapter names another base.

    Raises:
        ConfigError: naming what speaks against the merge.
        Unavailable: if the base's weights are not here, or cannot be read.
    """
    config: ModelConfig = evidence.get("config")
    family: Family = evidence.get("family")
    reference: nn.Module = evidence.get("reference")
    folder, tensors = _stored(config, merged)
    stored = read_stored_base(folder, config.values, merged.model.dtype)
    if stored.misfits:
        raise refusal(folder, f"does not hold this model's weights: {stored.misfits}")
    told = list(_doubts(spec, merged, saved, config, other))
    wrappers = {n: hasattr(m, CLIP_BOUNDS[0]) for n, m in reference.named_modules() if _clips(m, family)}
    base = _trained_base(merged, evidence, saved, wrappers)
    names = frozenset(base.state_dict())
    expected = fit_adapter(base, saved, family, device="meta")
    changes = changes_of(expected, arrivals(expected, read_tensors(saved)), names, saved.file)
    ties = getattr(base_of(expected.model), "all_tied_weights_keys", None) or {}
    lora = saved.settings.lora if saved.settings else None
    changes = share_ties(changes, ties, saved.file, ensured=bool(lora and lora.ensure_weight_tying))
    moved = {f"{path}.weight": path for path in wrappers}
    outside = tuple(moved[name] for name in changes if name in moved and wrappers[moved[name]])
    changes = {f"{moved[name]}.linear.weight" if name in moved else name: change for name, change in changes.items()}
    places = stored_places(reference, [tensor.name for tensor in tensors])
    by_key = _by_key(changes, tensors, places, ties, saved)
    if outside:
        told.append(
            f"the adapter was trained around {len(outside)} clip wrappers, outside their clamps, as at {outside[0]}; "
            "merged, its delta is clamped: the two models differ where a clamp acts"
        )
    files = tuple(dict.fromkeys(tensor.file for tensor in tensors))
    stored_as = {FLOATS[tensor.dtype] for tensor in tensors if tensor.name in by_key}
    coarsest: Any = max(stored_as - {"float64"}, key=lambda n: torch.finfo(getattr(torch, n)).eps, default="float32")
    merged = replace(merged, model=replace(merged.model, dtype=coarsest, attn_implementation=None))
    return MergePlan(merged, config, family, saved, folder, files, by_key, outside, tuple(told))


def _stored(config: ModelConfig, merged: RunSpec) -> tuple[Path, list[StoredTensor]]:
    """Folder and tensors of a base whose files hold it in full."""
    folder = config.folder
    if folder is None:
        reason = f"the weights of {merged.model.id} are neither in a folder nor in the Hugging Face cache"
        raise Unavailable(reason, ELSEWHERE)
    if quantised := config.values.get("quantization_config"):
        method = quantised.get("quant_method", "?") if isinstance(quantised, Mapping) else "?"
        raise refusal(
            folder / "config.json",
            f"describes a base that is stored quantised ({shown(str(method))}); a merge needs it in 16 bits: name that "
            "folder with --base",
        )
    pickles = sorted(file for file in folder.glob("*") if file.suffix in (".bin", ".pt", ".pth", ".pkl"))
    if pickles and not any(folder.glob("*.safetensors")):
        raise refusal(pickles[0], "is a pickle, which can run code when it is read, so vlcheck never opens one")
    try:
        files = weight_files(folder)
    except Unavailable as absent:
        raise Unavailable(absent.reason, ELSEWHERE) from absent
    tensors = [tensor for file in files for tensor in read_header(file)]
    if packed := next((t for t in tensors if PACKED.search(t.name) or (t.dtype in ("U8", "I8") and t.numel > 1)), None):
        raise refusal(packed.file, f"holds packed weights ({shown(packed.name)}); a merge needs the base in 16 bits")
    if (index := folder / INDEX).is_file() and len(files) > 1:
        with open_regular(index) as stream:
            document: Any = read_json(index, stream.read())
        for tensor in tensors:
            if document["weight_map"].get(tensor.name) != tensor.file.name:
                raise refusal(
                    index, f"does not say that {shown(tensor.name)} is in {tensor.file.name}, and it is there"
                )
    return folder, tensors


def _doubts(spec: RunSpec, merged: RunSpec, saved: SavedAdapter, config: ModelConfig, other: bool) -> Iterator[str]:
    """What is known of the base that the adapter was trained on, against the one that it is merged into.

    Raises:
        ConfigError: if they are known to differ, and the user does not know it yet.
    """
    named = saved.settings.base if saved.settings else ""
    into = merged.model.id
    if named and not any(_same_name(named, name) for name in (spec.model.id, into)):
        fault = f"names the base {shown(named)}, and the merge is into {into}"
        if not other:
            raise refusal(saved.folder / "adapter_config.json", f"{fault}; --other-base merges all the same")
        yield f"the adapter {fault}"
    yield from _digests(spec, merged, saved, config, other)
    if spec.quantization is not None:
        bits = "4" if spec.quantization.load_in_4bit else "8"
        yield (
            f"the run trains on its base in {bits} bits, and the merge is into the base as it is stored: what "
            "quantising took from it is back, so scores can move; evaluate --merged measures it"
        )
    if spec.model.patch is not None:
        yield f"model.patch {spec.model.patch} is not part of a merged model: whoever loads it must apply it"


def _digests(spec: RunSpec, merged: RunSpec, saved: SavedAdapter, config: ModelConfig, other: bool) -> Iterator[str]:
    try:
        identity = read_manifest(saved.folder).identity
    except BrokenCheckpoint:
        identity = {}
    known = identity.get("model.base")
    if known is None or identity.get("model.weights") == "random":
        yield "the adapter does not say which weights it was trained on: its base is known by name and shapes alone"
        return
    if known in (base_digest(merged, config.values), digest_of(_config_alone(config))):
        return
    if merged.model.id != spec.model.id and _quantised(spec):
        yield (
            f"the adapter was trained on {spec.model.id}, which is stored quantised; {merged.model.id} is taken for it"
        )
        return
    fault = f"was trained on a base whose config or weights are not those of {merged.model.id}"
    if not other:
        raise refusal(
            saved.folder / "manifest.json", f"says that the adapter {fault}; --other-base merges all the same"
        )
    yield f"the adapter {fault}"


def _config_alone(config: ModelConfig) -> Iterator[bytes]:
    yield json.dumps(config.values, sort_keys=True, default=str).encode()


def _quantised(spec: RunSpec) -> bool:
    try:
        return bool(find_config(spec, offline=True).values.get("quantization_config"))
    except ConfigError:
        return False


def _same_name(one: str, other: str) -> bool:
    """The same model, by its id, wherever it lies."""
    return one.rstrip("/").rpartition("/")[2].casefold() == other.rstrip("/").rpartition("/")[2].casefold()


def _clips(module: nn.Module, family: Family) -> bool:
    return family.clip_wrapper is not None and type(module).__name__ == family.clip_wrapper


def _trained_base(merged: RunSpec, evidence: Evidence, saved: SavedAdapter, wrappers: Mapping[str, bool]) -> nn.Module:
    """The base on meta as the adapter was trained on it: patched, and without clip wrappers if it has none inside."""
    config: ModelConfig = evidence.get("config")
    base = build_unadapted(merged, Weights.META, config=config.values, patch=evidence.get("patch"))
    return unwrapped(base, saved, wrappers)


def unwrapped(base: nn.Module, saved: SavedAdapter, wrappers: Mapping[str, Any]) -> nn.Module:
    """A base whose clip wrappers are their inner layers, where an adapter is for those under the wrappers' names."""
    adapted = {tensor.name.removeprefix(PREFIX).partition(".lora_")[0] for tensor in saved.tensors}
    if adapted & wrappers.keys():
        for path in wrappers:
            inner = getattr(base.get_submodule(path), "linear", None)
            if inner is not None:
                base.set_submodule(path, inner)
    return base


def _by_key(
    changes: Mapping[str, Change],
    tensors: list[StoredTensor],
    places: Mapping[str, StoredPlace],
    ties: Mapping[str, str],
    saved: SavedAdapter,
) -> dict[str, Change]:
    """Changes by the keys of the base's files.

    Raises:
        ConfigError: if a changed parameter is stored in another form than the model holds it, or not at all.
    """
    found, left = {}, dict(changes)
    for tensor in tensors:
        place = places[tensor.name]
        change = changes.get(place.name)
        if change is None:
            continue
        left.pop(place.name, None)
        fault = fault_of(tensor, change)
        if not place.whole:
            fault = "is stored turned, or divided among several tensors, and vlcheck merges what is stored as it is"
        if fault:
            raise refusal(tensor.file, f"{shown(tensor.name)} {fault}; {saved.folder} changes it")
        found[tensor.name] = change
    for tied, owner in ties.items():
        if owner not in left:
            left.pop(tied, None)
    if left:
        raise refusal(saved.file, f"changes {sorted(left)[0]}, which is in no file of the base")
    return found
