"""Whether a base's stored weights are all of its weights: transformers loads what fits, and draws the rest at random.

Asked of transformers' own loader, which knows what is tied, renamed, converted and ignored on purpose: after a
load, or before one on tensors without storage, made of the headers of local safetensors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vlcheck.finding import NotApplicable, Unavailable
from vlcheck.model.family import Values

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
EXAMPLES = 3
PACKED = re.compile(
    r"^(.*)\.(SCB|weight_format|absmax|quant_map|nested_absmax|nested_quant_map|quant_state\.bitsandbytes__\w+)$"
)
"""What bitsandbytes 0.50 saves beside a packed weight."""


@dataclass(frozen=True)
class StoredBase:
    """What the headers of a local base say of its weights."""

    tensors: int
    misfits: str = ""
    """What does not fit the model; empty if all of it does."""


def misfits(told: Mapping[str, Any]) -> str:
    """What of stored weights does not fit the model, in one sentence; empty if all of it does.

    Args:
        told: what `from_pretrained(output_loading_info=True)` returns beside the model.
    """
    shapes = [f"{name} {list(stored)} for {list(own)}" for name, stored, own in sorted(told["mismatched_keys"])]
    kinds = (
        ("weights of the model are not in it", sorted(told["missing_keys"])),
        ("of its tensors have no place in the model", sorted(told["unexpected_keys"])),
        ("tensors have another shape", shapes),
    )
    return "; ".join(f"{len(names)} {what}: {_listed(names)}" for what, names in kinds if names)


def stored_misfits(folder: Path, config: Values, model: type[Any], own: Any, dtype: str) -> StoredBase:
    """What of a local folder's weights would not fit the model.

    Args:
        folder: with the safetensors.
        config: the model's config.json.
        model: the transformers class that the run builds.
        own: the transformers object of the config.

    Raises:
        Unavailable: if there are no safetensors, or they cannot be read.
        NotApplicable: if they were quantised before they were saved, by another library than bitsandbytes.
    """
    quantised = config.get("quantization_config") or {}
    if quantised and (not isinstance(quantised, Mapping) or quantised.get("quant_method") != "bitsandbytes"):
        raise NotApplicable("the checkpoint was saved quantised: its tensors are judged when they are loaded")
    stored = stored_tensors(folder)
    packed, stored = _unpacked(stored) if quantised else (frozenset[str](), stored)
    _, told = model.from_pretrained(
        None, config=own, state_dict=dict(stored), dtype=getattr(torch, dtype), device_map="meta",
        output_loading_info=True, ignore_mismatched_sizes=True,
    )  # fmt: skip
    shapes = [entry for entry in told["mismatched_keys"] if entry[0] not in packed]
    return StoredBase(len(stored), misfits({**told, "mismatched_keys": shapes}))


def _unpacked(stored: Mapping[str, torch.Tensor]) -> tuple[frozenset[str], dict[str, torch.Tensor]]:
    """Weights that bitsandbytes has packed, whose shape says nothing, and all tensors but what belongs to them."""
    extra = {name: PACKED.search(name) for name in stored}
    owners = {match[1] + (".weight" if match[2] == "SCB" else "") for match in extra.values() if match}
    kept = {name: tensor for name, tensor in stored.items() if extra[name] is None}
    return frozenset(owners), kept


def stored_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors that a folder's safetensors name, without storage; only headers are read.

    Raises:
        Unavailable: if there are none, or one cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    found: dict[str, torch.Tensor] = {}
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118  no mapping
                    found[name] = torch.empty(opened.get_slice(name).get_shape(), device="meta")
        except (OSError, SafetensorError, RuntimeError) as error:
            raise Unavailable(f"{file} cannot be read as safetensors: {error}") from error
    return found


def not_a_number(model: nn.Module) -> list[str]:
    """Names of the tensors that hold a NaN; infinite values are left alone, for bounds may be infinite."""
    named: Iterable[tuple[str, torch.Tensor]] = (*model.named_parameters(), *model.named_buffers())
    found = []
    for name, tensor in named:
        scales = getattr(getattr(tensor, "quant_state", None), "absmax", None)
        values = tensor if scales is None else scales
        if values.is_floating_point() and values.dtype.itemsize > 1 and values.numel() and not values.is_meta:
            least, _ = values.detach().aminmax()
            found += [name] if bool(least.isnan()) else []
    return found


def weight_files(folder: Path) -> Sequence[Path]:
    """The files that transformers reads: one of the usual name, or those that the index names.

    Raises:
        Unavailable: if there are none, or the index is damaged or names what is not there.
    """
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    try:
        named = set(json.loads((folder / INDEX).read_text("utf-8"))["weight_map"].values())
    except FileNotFoundError as missing:
        raise Unavailable(f"{folder} holds neither {SINGLE} nor {INDEX}") from missing
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise Unavailable(f"{folder / INDEX} is damaged: {type(error).__name__}") from error
    for name in named:
        if not isinstance(name, str) or Path(name).name != name or not (folder / name).is_file():
            raise Unavailable(f"{folder / INDEX} names {name!r}, which is no file of its folder")
    return [folder / name for name in sorted(named)]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:EXAMPLES]) + (", ..." if len(names) > EXAMPLES else "")
