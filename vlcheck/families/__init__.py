"""What vlcheck knows about each model family: one record a file, in one tuple."""

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
    layer_kinds: Callable[[Values], Mapping[str, Sequence[Hashable]]]
    """Path of each layer list to the kinds of its layers; layers of one kind are built alike."""
    shrink: Callable[[Values, Mapping[str, Sequence[int]]], dict[str, Any]]
    """The config of a tiny model of the same structure, keeping the chosen layers of each list."""
    image_row: Callable[[Values], dict[str, torch.Tensor]]
    """One row with an image for a model built from a shrunken config."""

    def part_of(self, path: str) -> Part | None:
        """The part whose attribute path holds this module; None outside all of them."""
        holders = [root for root in self.parts if path == root or path.startswith(root + ".")]
        return self.parts[max(holders, key=len)] if holders else None


CLIP_BOUNDS = ("input_min", "input_max", "output_min", "output_max")
"""Buffers of a clip wrapper, in the order of its forward pass."""


def family_of(values: Values) -> Family:
    """The family of a model config.

    Raises:
        LookupError: for an unknown `model_type`; the message lists the known ones.
    """
    for family in FAMILIES:
        if values.get("model_type") in family.model_types:
            return family
    known = ", ".join(kind for family in FAMILIES for kind in family.model_types)
    raise LookupError(f"model_type {values.get('model_type')!r} is of no family that vlcheck knows; known: {known}")


# The records need the names above.
from vlcheck.families import gemma3, gemma4  # noqa: E402

FAMILIES: tuple[Family, ...] = (gemma4.FAMILY, gemma3.FAMILY)
