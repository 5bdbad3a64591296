"""What a run's model expects of a saved adapter, and where each tensor of a file goes when PEFT loads it.

Both are asked of PEFT itself, on tensors without storage. Its loader renames keys on the way, as
transformers renamed modules, so comparing texts would report adapters that load well.
"""

from __future__ import annotations

import warnings
from collections.abc import Container, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from vlcheck.adapters.safetensors import StoredTensor
from vlcheck.adapters.saved import SavedAdapter
from vlcheck.model.family import Family, Part
from vlcheck.model.modules import ModuleTable

PREFIX = "base_model.model."
"""What PEFT puts before every path of the transformers model."""


@dataclass(frozen=True, slots=True)
class ExpectedTensor:
    """A tensor that the run's model holds, as PEFT saves it."""

    key: str
    shape: tuple[int, ...]
    part: Part | None
    module: str
    """Path in the transformers model."""
    rank: int | None
    """Rank of the LoRA layer; None for a full copy and for a weight of the base."""
    required: bool
    """It belongs to the adapter; the others are weights of the base, which a file may hold as well."""


@dataclass(frozen=True)
class ExpectedAdapter:
    """The adapter that the run's model would save."""

    model: nn.Module
    """PEFT's model, without storage or live."""
    name: str
    places: Mapping[str, ExpectedTensor]
    """By the name of the parameter in the model, which is where a loaded tensor arrives."""
    target_modules: str | frozenset[str]
    """As PEFT would write them down: `all-linear` and its own default resolved."""

    def required(self) -> list[ExpectedTensor]:
        """The adapter's own tensors, in the model's order."""
        return [place for place in self.places.values() if place.required]


@dataclass(frozen=True, slots=True)
class LoadedTensor:
    """A tensor of the file and its place."""

    tensor: StoredTensor
    place: ExpectedTensor | None
    part: Part | None
    joined: bool = False
    """PEFT makes one tensor of it and others, as it does of experts; no place of its own is needed."""


@dataclass(frozen=True)
class LoadedAdapter:
    """How a saved adapter fits the run's model."""

    tensors: tuple[LoadedTensor, ...]
    missing: tuple[ExpectedTensor, ...]
    refusal: str = ""
    """What PEFT's loader raised instead of loading."""

    @property
    def unexpected(self) -> tuple[LoadedTensor, ...]:
        """Tensors that the model has no place for; they are dropped when the adapter is loaded."""
        return tuple(fitted for fitted in self.tensors if fitted.place is None and not fitted.joined)


def is_peft(model: nn.Module) -> bool:
    """Whether PEFT's own model is what was given, or is inside it."""
    return _peft_model(model) is not None


def expect(model: nn.Module, modules: ModuleTable, family: Family) -> ExpectedAdapter:
    """Ask PEFT what it would save of this model.

    Args:
        model: PEFT's model, perhaps inside DDP or torch.compile.
        modules: its description.
    """
    from peft import get_peft_model_state_dict
    from peft.tuners.tuners_utils import BaseTunerLayer

    peft: Any = _peft_model(model)
    name = "default" if "default" in peft.peft_config else next(iter(peft.peft_config))
    everything = peft.state_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # embeddings that are saved beside the adapter are the base's own; to ask for them may ask the Hub
        saved = get_peft_model_state_dict(peft, everything, adapter_name=name, save_embedding_layers=False)
    arrived = _load(peft, name, {key: _empty(tensor.shape) for key, tensor in saved.items()})[0]
    keys = {place: key for key, place in arrived.items()}
    ranks = {n: m.r.get(name) for n, m in peft.named_modules() if isinstance(m, BaseTunerLayer) and hasattr(m, "r")}
    parts = {row.name: row.part for row in modules.rows}
    owners = {f"{PREFIX}{row.name}" for row in modules.rows} | set(ranks)
    places = {}
    for place, tensor in everything.items():
        module = _owner(place, owners).removeprefix(PREFIX)
        part = parts.get(_owner(module, parts), family.part_of(module))
        rank = ranks.get(_owner(place, ranks)) if ".lora_" in place else None
        places[place] = ExpectedTensor(keys.get(place, place), tuple(tensor.shape), part, module, rank, place in keys)
    targets = peft.peft_config[name].target_modules
    return ExpectedAdapter(peft, name, places, targets if isinstance(targets, str) else frozenset(targets or ()))


def load_into(saved: SavedAdapter, expected: ExpectedAdapter, family: Family) -> LoadedAdapter:
    """Let PEFT load a file's tensors, without storage, and see where each arrives."""
    tensors = {tensor.name: _empty(tensor.shape) for tensor in saved.tensors}
    absent = {  # PEFT looks full copies up by name, and would raise over the first that is not there
        place.key: _empty(place.shape)
        for place in expected.required()
        if place.rank is None and place.key not in tensors
    }
    refusal = ""
    try:
        arrived, made = _load(expected.model, expected.name, {**tensors, **absent})
    except Exception as error:  # the names are a stranger's
        arrived, made, refusal = (
            {p.key: n for n, p in expected.places.items()},
            set(),
            f"{type(error).__name__}: {error}",
        )
    places = {key: expected.places.get(place) for key, place in arrived.items() if key in tensors}
    fitted = []
    for tensor in saved.tensors:
        place = places.get(tensor.name)
        joined = bool(made) and tensor.name not in arrived
        fitted.append(LoadedTensor(tensor, place, place.part if place else _part(tensor.name, family), joined))
    filled = {place.key for place in places.values() if place} | {
        expected.places[n].key for n in made if n in expected.places
    }
    return LoadedAdapter(
        tuple(fitted), tuple(place for place in expected.required() if place.key not in filled), refusal
    )


def arrivals(expected: ExpectedAdapter, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Where PEFT would put each tensor of a file: by the name of the parameter, with what it makes of several."""
    return _arrivals(expected.model, expected.name, tensors)


def _load(peft: Any, name: str, tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, str], set[str]]:
    """Where each tensor arrives, and which places get one that was made of several."""
    arrived = _arrivals(peft, name, tensors)
    keys = {id(tensor): key for key, tensor in tensors.items()}
    whole = {place: keys[id(tensor)] for place, tensor in arrived.items() if id(tensor) in keys}
    return {key: place for place, key in whole.items()}, set(arrived) - set(whole)


def _arrivals(peft: Any, name: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """PEFT's loader runs whole, but its last step is written down, not taken."""
    from peft import set_peft_model_state_dict

    arrived: dict[str, torch.Tensor] = {}

    def record(state: Mapping[str, torch.Tensor], **options: Any) -> SimpleNamespace:
        arrived.update(state)
        return SimpleNamespace(missing_keys=[], unexpected_keys=[])

    peft.load_state_dict = record
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            set_peft_model_state_dict(peft, dict(tensors), adapter_name=name)
    finally:
        del peft.load_state_dict
    return arrived


def _empty(shape: tuple[int, ...]) -> torch.Tensor:
    try:
        return torch.empty(shape, device="meta")
    except RuntimeError:  # no values, and more than torch can count in the other dimensions
        return torch.empty(0, device="meta")


def _peft_model(model: nn.Module) -> nn.Module | None:
    """PEFT's model inside DDP, FSDP or torch.compile."""
    from peft import PeftModel

    return next((module for module in model.modules() if isinstance(module, PeftModel)), None)


def _owner(path: str, owners: Container[str]) -> str:
    """The longest leading path that is one of the owners."""
    while path and path not in owners:
        path = path.rpartition(".")[0]
    return path


def _part(key: str, family: Family) -> Part | None:
    """The part that a key without a place seems to mean, whatever stands before its path."""
    path = key
    while path:
        if part := family.part_of(path) or family.part_of(f"model.{path}"):
            return part
        path = path.partition(".")[2]
    return None
