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


def _no_options(values: Values) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """How a family holds a conversation in ids; what its chat template writes is read off by rendering."""

    end: str
    """Token that ends an assistant's turn; the last thing an answer trains."""
    batch_keys: tuple[str, ...]
    """What a batch with images must hold beside ids, attention mask and labels for the model to see it rightly."""
    image_tokens: tuple[str, ...]
    """Tokens that images put into the ids: soft tokens first, then those that frame them."""
    thought: tuple[str, str] | None = None
    """What opens and closes a thinking block, where the family has one."""
    suffix: bool = False
    """The processor takes question and answer apart (`text`, `suffix`) and has no chat template."""
    budget: Callable[[Any, int], None] | None = None
    """Set an image's largest number of soft tokens on a processor; None where the number is fixed."""


@dataclass(frozen=True, kw_only=True)
class ImageLayout:
    """How a family's processor presents one image: ids in the text, tensors beside them."""

    ids: tuple[int, ...]
    """What stands in the text for it: soft tokens and the markers around them."""
    soft: int
    """The placeholder's id, which the model replaces by an image feature."""
    tensors: Mapping[str, torch.Tensor]
    """What the image adds to a batch, key to tensor; those of several images are joined along their first axis."""
    types: str = ""
    """Key under which the processor says which ids are soft tokens, shape (rows, tokens); empty where it does not."""
    per_row: bool = False
    """Whether tensors get an axis for rows before that of a row's images."""
    per_token: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """What every token from the image on is told of it: shape (n,) here, (rows, tokens, images, n) in a batch."""
    several: bool = True
    """Whether an image looks the same where a row holds more than one."""


@dataclass(frozen=True, kw_only=True)
class FallbackProcessor:
    """What a processor is made of where the real one cannot be had."""

    processor: str
    """Processor class, by its name in transformers."""
    image_processor: str
    """Image processor class that needs Pillow alone, not torchvision."""
    tokens: Mapping[str, int]
    """The family's special tokens and their real ids."""
    roles: Mapping[str, str]
    """Attributes of the real tokenizer that name some of these tokens: `bos_token`, `image_token`, ..."""
    template: Callable[[Values], str | None]
    """File of the chat template in `vlcheck.model.families.templates`, by the model's config."""
    byte_level: bool = True
    """Words begin with a marked byte (GPT-2, Qwen, Llama 3), not with a sentencepiece underscore (Llama 2, Gemma)."""
    adds_bos: bool = False
    """The tokenizer puts the first token of a text there itself."""
    image_options: Callable[[Values], dict[str, Any]] = _no_options
    """Arguments of the image processor that follow from the model's config."""
    options: Callable[[Values], dict[str, Any]] = _no_options
    """Arguments of the processor class that follow from the model's config."""


def _nothing(values: Values) -> Sequence[str]:
    return ()


def _never(values: Values) -> bool:
    return False


def _always(values: Values) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class Family:
    """Everything family-specific.

    Paths are attribute paths from the class that `AutoModelForImageTextToText` builds.
    """

    name: str
    model_types: tuple[str, ...]
    applies: Callable[[Values], bool] = _always
    """Whether a config of one of these types is of this family; the first family that says so has it."""
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
    dialogue: Dialogue | None = None
    """How conversations look in ids; None where vlcheck has not learnt it."""
    fallback: FallbackProcessor | None = None
    """How to make a processor without the Hub."""
    image_layout: Callable[[Values, int, torch.device], ImageLayout] | None = None
    """What the processor makes of one image, given the model's full config, the image's soft tokens and the device of
    its pixels; on meta they take no memory. Raises Unavailable for a number of soft tokens that no image has. None
    where the processor was not read: such a run's memory is not projected."""
    soft_tokens: Callable[[Values, int | None], tuple[int, str]] | None = None
    """Soft tokens of an image that nothing is known of, given the full config and the run's limit, and what was assumed
    for it; empty where nothing was. Goes with `image_layout`."""
    most_soft_tokens: int | None = None
    """Largest number of soft tokens that the processor can be asked for; None where it has no limit of its own."""
    soft_token_side: int | None = None
    """Side in pixels of the square that one soft token covers, where larger images take more soft tokens; None where an
    image of any size takes a bounded number."""
    measured: bool = False
    """Whether the projection of a run of this family, or of a near relative, was held against a GPU."""
    doubt: str = ""
    """What a reader must know to weigh what is said of this family's parts."""

    def part_of(self, path: str) -> Part | None:
        """The part whose attribute path holds this module; None outside all of them."""
        holders = [root for root in self.parts if path == root or path.startswith(root + ".")]
        return self.parts[max(holders, key=len)] if holders else None


CLIP_BOUNDS = ("input_min", "input_max", "output_min", "output_max")
"""Buffers of a clip wrapper, in the order of its forward pass."""
