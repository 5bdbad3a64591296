"""What an adapter makes of its base's parameters, each change as arithmetic on rows: in fp32, rounded by nobody here.

The factors are found in PEFT's own layers, which know their scaling (rslora, alpha and rank patterns); the products are
formed here, a few rows at a time, because PEFT's `merge` needs the whole layer, and rounds its delta on the way.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from vlcheck.adapters.load import PREFIX, ExpectedAdapter
from vlcheck.adapters.safetensors import refusal, shown
from vlcheck.model.build import base_of


@dataclass(frozen=True)
class LowRank:
    """`base + scaling * left @ right`, one product an expert; with DoRA, each row brought to its trained length."""

    left: torch.Tensor
    """Shape (experts, rows, rank)."""
    right: torch.Tensor
    """Shape (experts, rank, columns)."""
    scaling: float
    magnitude: torch.Tensor | None = None
    """DoRA's length of each row, shape (rows,)."""

    @property
    def columns(self) -> int:
        """Values of a row."""
        return self.right.shape[2]

    @property
    def numel(self) -> int:
        """Values of the parameter."""
        return self.left.shape[0] * self.left.shape[1] * self.columns

    def applied(self, base: torch.Tensor, first: int) -> torch.Tensor:
        """The changed rows in fp32, from the base's, shape (rows, columns), of which `first` is the number of one."""
        rows, found = self.left.shape[1], base.float()
        found = found.clone() if found is base else found
        done = 0
        while done < len(found):
            expert, row = divmod(first + done, rows)
            count = min(rows - row, len(found) - done)
            part = found[done : done + count]
            left, right = self.left[expert, row : row + count].float(), self.right[expert].float()
            part.addmm_(left, right, alpha=self.scaling)
            if self.magnitude is not None:
                part *= (self.magnitude[row : row + count].float() / part.norm(dim=1))[:, None]
            done += count
        return found


@dataclass(frozen=True)
class Whole:
    """A parameter that was trained in full, and takes the base's place."""

    values: torch.Tensor

    @property
    def columns(self) -> int:
        """Values of a row."""
        return max(1, math.prod(self.values.shape[1:]))

    @property
    def numel(self) -> int:
        """Values of the parameter."""
        return self.values.numel()

    def applied(self, base: torch.Tensor, first: int) -> torch.Tensor:
        """As `LowRank.applied`."""
        return self.values.view(-1, self.columns)[first : first + len(base)].float()


@dataclass(frozen=True)
class Replaced:
    """A delta on a base layer that the file holds as well, as PEFT saves embeddings whose vocabulary may have grown."""

    base: Whole
    delta: LowRank

    @property
    def columns(self) -> int:
        """Values of a row."""
        return self.delta.columns

    @property
    def numel(self) -> int:
        """Values of the parameter."""
        return self.delta.numel

    def applied(self, base: torch.Tensor, first: int) -> torch.Tensor:
        """As `LowRank.applied`."""
        return self.delta.applied(self.base.applied(base, first), first)


Change: TypeAlias = LowRank | Whole | Replaced


def changes_of(
    expected: ExpectedAdapter, arrived: Mapping[str, torch.Tensor], base: Container[str], file: Path
) -> dict[str, Change]:
    """What each tensor that PEFT loads does to the base, by the parameter's name in the untouched model.

    Args:
        expected: of PEFT's model, without storage.
        arrived: tensors by their place in it, see `arrivals`.
        base: names of the untouched model's parameters.
        file: of the adapter, for what cannot be merged.

    Raises:
        ConfigError: naming a tensor that no change accounts for, or a kind of layer that cannot be merged.
    """
    name, left = expected.name, dict(arrived)
    changes: dict[str, Change] = {}
    for path, layer in base_of(expected.model).named_modules():
        own = {key: left.pop(key) for key in list(left) if key.startswith(f"{PREFIX}{path}.lora_")}
        if own:
            parts = {key.removeprefix(f"{PREFIX}{path}.").replace(f".{name}", ""): own[key] for key in own}
            parameter = f"{_plain(path, name)}.{getattr(layer, 'parameter_name', 'weight')}"
            _add(changes, parameter, _low_rank(layer, name, parts, parameter, file), file)
    for place, tensor in left.items():
        parameter = _plain(place.removeprefix(PREFIX), name)
        if parameter not in base:
            raise refusal(file, f"holds {shown(place)}, and vlcheck does not know how that is merged")
        delta = changes.get(parameter)
        if isinstance(delta, LowRank) and ".base_layer." in place and delta.numel == tensor.numel():
            changes[parameter] = Replaced(Whole(tensor), delta)
        else:
            _add(changes, parameter, Whole(tensor), file)
    return changes


def share_ties(
    changes: Mapping[str, Change], ties: Mapping[str, str], file: Path, *, ensured: bool
) -> dict[str, Change]:
    """Changes of tied parameters under both names, where they are one change.

    Args:
        ties: parameter to the one whose values it has.
        ensured: PEFT ties what it adds as well, so that a change of one is a change of both.

    Raises:
        ConfigError: if an adapter makes the two differ: a file that ties them can hold one of them only.
    """
    found = dict(changes)
    for tied, owner in ties.items():
        pair = [found.get(owner), found.get(tied)]
        known = [change for change in pair if change is not None]
        if not known:
            continue
        if len(known) == 1 and not ensured:
            one, other = (owner, tied) if pair[0] is not None else (tied, owner)
            raise refusal(
                file,
                f"changes {one} alone, which the base ties to {other}: merged, both would change; train both "
                "(ensure_weight_tying), or neither",
            )
        if len(known) == 2 and not _same(known[0], known[1]):
            raise refusal(
                file,
                f"makes {tied} and {owner} differ, which the base ties: a merged model could hold only one of them",
            )
        found[owner] = found[tied] = known[0]
    return found


def _add(changes: dict[str, Change], parameter: str, change: Change, file: Path) -> None:
    if parameter in changes:
        raise refusal(file, f"changes {parameter} in two ways; one can be merged")
    changes[parameter] = change


def _low_rank(layer: nn.Module, name: str, parts: Mapping[str, torch.Tensor], parameter: str, file: Path) -> LowRank:
    """The change that one of PEFT's layers makes, by the layer's own idea of its factors."""
    from peft.tuners.lora import layer as kinds

    tuner: Any = layer
    magnitude = parts.get("lora_magnitude_vector.weight", parts.get("lora_magnitude_vector"))
    dora = magnitude is not None
    known = {"lora_A.weight", "lora_B.weight", "lora_embedding_A", "lora_embedding_B"}
    if strange := sorted(set(parts) - known - {"lora_magnitude_vector.weight", "lora_magnitude_vector"}):
        raise refusal(file, f"holds {strange[0]} for {parameter}, and vlcheck does not know how that is merged")
    if (name in tuner.lora_variant) != dora:
        raise refusal(file, f"changes {parameter} by a variant of LoRA that vlcheck does not merge")
    scaling = float(tuner.scaling[name])
    base = tuner.get_base_layer()
    if isinstance(tuner, kinds.Embedding) and not dora:
        down, up = parts["lora_embedding_A"], parts["lora_embedding_B"]
        return LowRank(down.T[None], up.T[None], scaling)
    linear = isinstance(tuner, kinds.Linear)
    convolves = isinstance(tuner, kinds.Conv1d | kinds.Conv2d | kinds.Conv3d) and base.groups == 1
    if not (linear or convolves or isinstance(tuner, kinds.ParamWrapper)) or (
        dora and getattr(tuner, "fan_in_fan_out", False)
    ):
        how = f"{'DoRA on ' if dora else ''}{type(base).__name__}"
        raise refusal(file, f"changes {parameter} by {how}, which vlcheck does not merge")
    down, up = parts["lora_A.weight"], parts["lora_B.weight"]
    if isinstance(tuner, kinds.ParamWrapper):
        experts = int(tuner.num_experts)
        downs = down.view(experts, -1, down.shape[-1])
        ups = up.view(up.shape[0], -1, experts).permute(2, 0, 1)
        if experts == 1 or not getattr(base, "is_transposed", False):  # stored (experts, out, in)
            return LowRank(ups, downs, scaling)
        return LowRank(downs.transpose(1, 2), ups.transpose(1, 2), scaling)
    if linear and tuner.fan_in_fan_out:
        return LowRank(down.T[None], up.T[None], scaling)
    lengths = magnitude.flatten() if magnitude is not None else None
    return LowRank(up.flatten(1)[None], down.flatten(1)[None], scaling, lengths)


def _plain(path: str, name: str) -> str:
    """A path of PEFT's model in the untouched one."""
    return re.sub(rf"\.(base_layer|original_module|modules_to_save\.{re.escape(name)})(?=\.|$)", "", path)


def _same(one: Change, other: Change) -> bool:
    if isinstance(one, Whole) and isinstance(other, Whole):
        return torch.equal(one.values, other.values)
    if isinstance(one, Replaced) and isinstance(other, Replaced):
        return _same(one.base, other.base) and _same(one.delta, other.delta)
    if isinstance(one, LowRank) and isinstance(other, LowRank):
        return (
            one.scaling == other.scaling and torch.equal(one.left, other.left) and torch.equal(one.right, other.right)
        )
    return False
