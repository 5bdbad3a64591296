"""What vlcheck has to know about a model family; the records themselves are in `families`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import torch

Values: TypeAlias = Mapping[str, Any]
"""A model's config.json as a mapping."""


class Part(Enum):
    """The parts of a vision-language model that a run trains or freezes."""

    VISION = "vision tower"
    PROJECTOR = "projector"
    LANGUAGE = "language model"
    AUDIO = "audio tower"
    EXPERTS = "experts"
    ROUTER = "router"

    @property
    def intent(self) -> str:
        """The part's key in the config's `intent` section."""
        return self.name.lower()


def _nothing(values: Values) -> Sequence[str]:
    return ()


def _never(values: Values) -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class Family:
    """Everything family-specific.

    Paths are attribute paths from the class that `AutoModelForImageTextToText` builds.
    """

    name: str
    model_types: tuple[str, ...]
    parts: Mapping[str, Part]
    """Attribute path to part; the longest path that holds a module wins."""
    part_classes: Mapping[str, Part] = field(default_factory=dict)
    """Class name to part, for modules that sit inside another part."""
    clip_wrapper: str | None = None
    """Class name of the module that clamps around an inner `.linear`."""
    layer_kinds: Callable[[Values], Mapping[str, Sequence[Hashable]]] | None = None
    """Path of each layer list to the kinds of its layers; layers of one kind are built alike."""
    shrink: Callable[[Values, Mapping[str, Sequence[int]]], dict[str, Any]] | None = None
    """The config of a tiny model of the same structure, keeping the chosen layers of each list."""
    sample_row: Callable[[Values, frozenset[str]], dict[str, torch.Tensor]] | None = None
    """One row that holds these modalities, for a model built from a shrunken config."""
    dropped: Callable[[Values], Sequence[str]] = _nothing
    """Paths whose output the model drops as its config says: no setting gives an adapter there a gradient."""
    overflows_in_fp16: str = ""
    """What is known to overflow in float16, and where it is reported; empty where nothing is."""
    explodes: Callable[[Values], bool] = _never
    """Whether exploding gradients are reported for LoRA on a model of this config."""
    doubt: str = ""
    """What a reader must know to weigh what is said of this family's parts."""

    def part_of(self, path: str) -> Part | None:
        """The part whose attribute path holds this module; None outside all of them."""
        holders = [root for root in self.parts if path == root or path.startswith(root + ".")]
        return self.parts[max(holders, key=len)] if holders else None


CLIP_BOUNDS = ("input_min", "input_max", "output_min", "output_max")
"""Buffers of a clip wrapper, in the order of its forward pass."""
