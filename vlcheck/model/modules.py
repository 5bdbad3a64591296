"""What a run made of its model, as one frozen row a module."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from vlcheck.model.family import CLIP_BOUNDS, Family, Part

if TYPE_CHECKING:
    from torch import nn


QUANTISED = ("nf4", "fp4", "int8")
"""Storage types of bitsandbytes' packed weights."""


class Placement(Enum):
    """Where a run's LoRA delta sits relative to a clip wrapper, or what became of the wrapper."""

    INSIDE = "inside"  # clamp(base + delta): sound
    AROUND = "around"  # clamp(base) + delta: the delta is unbounded
    REPLACED = "replaced"  # no clamp is left


@dataclass(frozen=True, slots=True)
class ModuleRow:
    """A module that owns parameters or buffers of its own, carries an adapter, or is a clip wrapper."""

    name: str
    part: Part | None
    kind: str
    """Class of the base module, adapters aside."""
    parameters: int
    """Parameters of the base module itself, as in the unquantised model."""
    bytes: int
    """What it stores, packed weights with their statistics; 0 for weights tied to an earlier row's."""
    dtype: str
    quantised: bool
    clipped: bool
    """The family's untouched model clamps here."""
    adapted: bool
    """It carries LoRA weights, or, for a clip wrapper, a module inside it does."""
    adapter_parameters: int
    adapter_dtype: str
    """Number types of the adapter's tensors; empty without one."""
    saved: bool
    """It is trained in full: through `modules_to_save`, or because the run has no adapters."""
    trainable: bool
    """Its adapter or its full copy requires gradients."""
    placement: Placement | None


@dataclass(frozen=True)
class ModuleTable:
    """Every row, in the model's order; names are paths in the transformers model."""

    rows: tuple[ModuleRow, ...]

    def where(self, **wanted: Any) -> Iterator[ModuleRow]:
        """Rows whose fields equal the wanted values."""
        return (row for row in self.rows if all(getattr(row, key) == value for key, value in wanted.items()))

    def adapters(self, part: Part | None = None) -> list[ModuleRow]:
        """Rows that carry LoRA weights themselves, of one part or of all."""
        return [row for row in self.rows if row.adapter_parameters and (part is None or row.part is part)]

    def trained(self, part: Part) -> int:
        """Modules of a part that the run trains, by adapter or in full."""
        return sum(row.trainable and (row.adapter_parameters > 0 or row.saved) for row in self.where(part=part))

    def parts(self) -> tuple[Part, ...]:
        """The parts that own at least one row, in the order of `Part`."""
        present = {row.part for row in self.rows}
        return tuple(part for part in Part if part in present)

    def storage(self) -> dict[str, int]:
        """Stored bytes of the base by class: packed weights, fused experts, embeddings, other tensors."""
        bytes_of: Counter[str] = Counter()
        for row in self.rows:
            bytes_of[_storage_class(row)] += row.bytes
        return {name: count for name, count in bytes_of.most_common() if count}

    def census(self) -> dict[str, dict[str, int]]:
        """Adapted modules, all linear-like modules and adapter parameters of each part."""
        count: dict[str, Counter[str]] = {part.value: Counter() for part in self.parts()}
        for row in self.rows:
            if row.part is not None:
                count[row.part.value].update(
                    adapted=int(row.adapter_parameters > 0),
                    linears=int("Linear" in row.kind and row.parameters > 0),
                    saved=int(row.saved),
                    adapter_parameters=row.adapter_parameters,
                )
        return {part: dict(numbers) for part, numbers in count.items()}


def tabulate(model: nn.Module, reference: nn.Module, family: Family) -> ModuleTable:
    """Describe a run's model, comparing it with the untouched base.

    Args:
        model: the transformers model with adapters in place, without outer wrappers.
        reference: the same architecture as transformers ships it.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    wrappers = {
        name: hasattr(module, CLIP_BOUNDS[0])
        for name, module in reference.named_modules()
        if type(module).__name__ == family.clip_wrapper
    }
    adapts = any(isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper) for module in model.modules())
    rows: list[ModuleRow] = []
    inner_of: dict[str, Part] = {}  # paths of modules whose class names a part of its own
    stored: set[int] = set()
    hidden: tuple[str, ...] = ()  # inside an adapted or saved module: described by that module's row
    for name, module in model.named_modules():
        if not name or (hidden and name.startswith(hidden)):
            continue
        tuner, saver = isinstance(module, BaseTunerLayer), isinstance(module, AuxiliaryTrainingWrapper)
        base: Any = module.get_base_layer() if tuner else getattr(module, "original_module", module)
        if (own := family.part_classes.get(type(base).__name__)) is not None:
            inner_of[name + "."] = own
        if tuner or saver:
            hidden = (name + ".",)
        owns = list(base.parameters(recurse=tuner or saver)) or list(base.buffers(recurse=False))
        adapter = _adapter_parameters(module) if tuner else []
        trainable = any(p.requires_grad for p in module.parameters(recurse=tuner or saver))
        if owns or name in wrappers:
            rows.append(
                ModuleRow(
                    name=name,
                    part=_part(name, own, inner_of, family),
                    kind=type(base).__name__,
                    parameters=sum(map(_count, base.parameters(recurse=tuner or saver))),
                    bytes=sum(_bytes(tensor) for tensor in owns if id(tensor) not in stored),
                    dtype=_dtype(owns[0]) if owns else "",
                    quantised=any(_dtype(tensor) in QUANTISED for tensor in owns),
                    clipped=wrappers.get(name, False),
                    adapted=holds_adapter(module),
                    adapter_parameters=sum(map(_count, adapter)),
                    adapter_dtype="+".join(sorted({_dtype(tensor) for tensor in adapter})),
                    saved=saver or (trainable and not adapts),
                    trainable=trainable,
                    placement=_placement(module, family) if name in wrappers else None,
                )
            )
            stored.update(map(id, owns))
    return ModuleTable(tuple(rows))


def _part(name: str, own: Part | None, inner_of: Mapping[str, Part], family: Family) -> Part | None:
    if own is not None:
        return own
    inner = next((part for prefix, part in inner_of.items() if name.startswith(prefix)), None)
    return inner or family.part_of(name)


def _placement(module: nn.Module, family: Family) -> Placement | None:
    """Structure alone: the probe measures whether it behaves that way."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    if isinstance(module, BaseTunerLayer):
        return Placement.AROUND if _has_bounds(module.get_base_layer(), family) else Placement.REPLACED
    if not _has_bounds(module, family):
        return Placement.REPLACED
    return Placement.INSIDE if holds_adapter(module) else None


def _has_bounds(module: Any, family: Family) -> bool:
    """A clip wrapper, live or not, or anything that carries its bounds."""
    return type(module).__name__ == family.clip_wrapper or all(hasattr(module, bound) for bound in CLIP_BOUNDS)


def holds_adapter(module: nn.Module) -> bool:
    """Whether a module is, or contains, one that carries LoRA weights."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return any(isinstance(inner, BaseTunerLayer) and _adapter_parameters(inner) for inner in module.modules())


def _adapter_parameters(layer: Any) -> list[nn.Parameter]:
    """LoRA's own tensors: whatever the layer holds beside its base."""
    base = {id(parameter) for parameter in layer.get_base_layer().parameters()}
    return [parameter for parameter in layer.parameters() if id(parameter) not in base]


def _storage_class(row: ModuleRow) -> str:
    if row.quantised:
        return f"quantised linear layers ({row.dtype})"
    if row.part is Part.EXPERTS:
        return f"experts ({row.dtype})"
    return f"embeddings ({row.dtype})" if "Embedding" in row.kind else f"other tensors ({row.dtype})"


def _bytes(tensor: Any) -> int:
    """Stored bytes; of a packed weight by bitsandbytes' layout, which on meta is all there is to go by.

    4 bits a value; a statistic for each block; with double quantisation one byte a statistic, and for
    every 256 of them a float, beside two code books and an offset.
    """
    count = _count(tensor)
    if type(tensor).__name__ == "Int8Params":
        return count + 4 * (tensor.shape[0] if tensor.dim() > 1 else 1)
    if type(tensor).__name__ != "Params4bit":
        return count * int(tensor.element_size())
    blocks = -(-count // int(tensor.blocksize))
    statistics = blocks + 4 * -(-blocks // 256) + 4 * 256 + 4 if tensor.compress_statistics else 4 * blocks
    return -(-count // 2) + statistics + 4 * 16


def _dtype(tensor: Any) -> str:
    """Storage type; a packed weight goes by its data type, on meta too, where nothing is packed yet."""
    if type(tensor).__name__ == "Params4bit":
        return str(tensor.quant_type)
    return "int8" if type(tensor).__name__ == "Int8Params" else str(tensor.dtype).removeprefix("torch.")


def _count(parameter: nn.Parameter) -> int:
    """Elements of the unquantised parameter; packed 4-bit weights remember their shape."""
    state = getattr(parameter, "quant_state", None)
    return int(state.shape.numel()) if state is not None else parameter.numel()
