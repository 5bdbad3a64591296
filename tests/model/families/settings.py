"""Processors to hold laws against: the stand-in of every family, and real tokenizers where they are at hand."""

from __future__ import annotations

import lzma
import tempfile
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoTokenizer, BatchFeature

from tests.model.families.models import SMALLEST, entry, miniature
from vlcheck.finding import Unavailable
from vlcheck.model.build import transformers_config
from vlcheck.model.families import family_of
from vlcheck.model.family import Dialogue, Family
from vlcheck.processing.chat_template import special_tokens
from vlcheck.processing.collator import Collator, placeholder
from vlcheck.processing.fallback import assemble, build_fallback, read_template

SHARED = Path(__file__).parents[4] / "shared" / "data"
GEMMA4_BUDGETS = (70, 140, 280, 560, 1120)


@dataclass(frozen=True)
class Setting:
    """One processor, and what conversations it can be asked to hold."""

    name: str
    values: Mapping[str, Any] = field(repr=False)
    """The config.json of a model that takes its batches."""
    processor: Any = field(repr=False)
    nfc: bool = False
    """Its tokenizer composes characters before it cuts text."""
    budgets: tuple[int, ...] = ()
    """Soft tokens that an image may be allowed; the first is how the processor stands."""
    collator: Callable[..., Any] = Collator

    @property
    def family(self) -> Family:
        return family_of(self.values)

    @property
    def dialogue(self) -> Dialogue:
        found = self.family.dialogue
        assert found is not None
        return found

    @property
    def system_with_images(self) -> bool:
        """Llama 3.2's template refuses an image beside a system turn."""
        return self.family.name != "Llama 3.2 Vision"

    @property
    def reserved(self) -> tuple[str, ...]:
        """What no text may hold, because it cannot be told from an image, a video or a sound."""
        other = (getattr(self.processor, f"{kind}_token", None) for kind in ("video", "audio"))
        return (placeholder(self.processor), self.dialogue.image_tokens[0], *filter(None, other))

    @property
    def markers(self) -> tuple[str, ...]:
        """Special tokens that a text may hold, and headers that are plain text."""
        named = [
            token
            for token in special_tokens(self.processor.tokenizer)
            if not token.startswith(("<loc", "<seg", "\u2581"))
        ]
        allowed = [token for token in named if not any(word in token for word in self.reserved)]
        return (self.dialogue.end, *allowed[:24], "ASSISTANT:", "[/INST]", "\nAssistant:", "<|turn>model\n")

    def collate(self, **options: Any) -> Any:
        """A collator for it."""
        return self.collator(self.processor, self.dialogue, **options)

    def text(self, text: str) -> str:
        """A text as decoding its ids gives it back."""
        return unicodedata.normalize("NFC", text) if self.nfc else text


class ImagesBySize:
    """An image processor that looks at each size once, and keeps shapes in place of pixels.

    No label depends on a pixel; ten thousand batches would spend their time on nothing else. Where a family's
    images lie end to end in a batch, whatever row they are of, each is looked at alone, else each arrangement.
    """

    def __init__(self, inner: Any, *, end_to_end: bool) -> None:
        self.__dict__.update(inner=inner, made={}, end_to_end=end_to_end)

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # while a copy is being made
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.inner, name, value)

    def __call__(self, images: Any, **options: Any) -> BatchFeature:
        if not self.end_to_end:
            return BatchFeature(dict(self.seen(images, options)))
        single = [self.seen([[image]], options) for row in images for image in row]
        return BatchFeature({key: _joined([each[key] for each in single]) for key in single[0]})

    def seen(self, images: Any, options: dict[str, Any]) -> Any:
        """What the processor makes of these images, from memory if it has seen as large ones."""
        sizes = [[image.size for image in row] if isinstance(row, list) else row.size for row in images]
        limits = [getattr(self.inner, name, None) for name in ("max_soft_tokens", "size", "max_patches")]
        key = repr((sizes, options, limits))
        if key not in self.made:
            made = self.inner(images, **options)
            if isinstance(made.get("pixel_values"), torch.Tensor):
                made["pixel_values"] = torch.zeros(()).expand(made["pixel_values"].shape)
            self.made[key] = made
        return self.made[key]


def _joined(values: Sequence[Any]) -> Any:
    """Images end to end; shapes that stand for pixels stay shapes."""
    if not isinstance(values[0], torch.Tensor):
        return [each for value in values for each in value]
    first, count = values[0], sum(len(value) for value in values)
    if first.stride(-1) == 0:
        return first[:1].expand(count, *first.shape[1:])
    return torch.cat(list(values))


def _setting(name: str, values: Mapping[str, Any], processor: Any, *, nfc: bool = False) -> Setting:
    processor.image_processor = ImagesBySize(processor.image_processor, end_to_end="gemma" in name)
    made = Setting(name, values, processor, nfc=nfc, budgets=GEMMA4_BUDGETS if "gemma-4" in name else ())
    if made.budgets and made.dialogue.budget:
        made.dialogue.budget(processor, made.budgets[0])
    return made


STAND_INS = (*SMALLEST, "HuggingFaceM4/Idefics3-8B-Llama3")
REAL = ("gemma-4 large", "gemma-4 small", "gemma-3", "qwen3")


@cache
def setting(name: str) -> Setting:
    """A setting by the Hub's id (stand-in), or by the folder of a real tokenizer.

    Raises:
        Skipped: if a package or the folder is not here.
    """
    if name in REAL:
        return _real(name)
    values = config(name)
    try:
        processor = build_fallback(family_of(values), values)
    except Unavailable as unavailable:
        pytest.skip(unavailable.reason)
    return _setting(name, values, processor)


@cache
def config(name: str) -> dict[str, Any]:
    """A model whose images are small: the miniature's geometry; the real one where images stay as small as they are."""
    if "Idefics3" in name:
        smol = config("HuggingFaceTB/SmolVLM2-256M-Video-Instruct")
        vision = {**smol["vision_config"], "model_type": "idefics3_vision"}
        return {**smol, "model_type": "idefics3", "vision_config": vision}
    if any(kind in name for kind in ("gemma-4", "pixtral", "Mistral-Small")):
        return transformers_config(entry(name).config).to_dict()
    return miniature(name)


def _real(name: str) -> Setting:
    if not SHARED.is_dir():
        pytest.skip("../shared/data is not here")
    hub_id = {
        "gemma-4 large": "google/gemma-4-26B-A4B-it",
        "gemma-4 small": "google/gemma-4-E2B-it",
        "gemma-3": "google/gemma-3-4b-it",
        "qwen3": "Qwen/Qwen3-VL-2B-Instruct",
    }[name]
    values = config(hub_id)
    return _setting(name, values, real_processor(name, values), nfc=name == "qwen3")


def real_processor(name: str, values: Mapping[str, Any]) -> Any:
    """A processor of a real tokenizer and the official template, put together as a family's stand-in is."""
    template = {
        "gemma-4 large": "gemma-4-large.2026-05.jinja",
        "gemma-4 small": "gemma-4-small.2026-05.jinja",
        "gemma-3": "gemma-3-it.jinja",
    }
    record = family_of(values).fallback
    assert record is not None
    text = (
        (SHARED / "chat-templates" / template[name]).read_text()
        if name in template
        else read_template(record.template(values) or "")
    )
    full = transformers_config(values).to_dict()
    return assemble(
        getattr(transformers, record.processor),
        image_processor=getattr(transformers, record.image_processor)(**record.image_options(full)),
        tokenizer=real_tokenizer(name.split(maxsplit=1)[0]),
        chat_template=text,
        **record.options(full),
    )


@cache
def real_tokenizer(folder: str) -> Any:
    """A tokenizer of the shared data."""
    with tempfile.TemporaryDirectory() as unpacked:
        unpack_tokenizer(folder, Path(unpacked))
        return AutoTokenizer.from_pretrained(unpacked)


def unpack_tokenizer(folder: str, into: Path) -> None:
    """Write the files of a tokenizer of the shared data, as the Hub has them."""
    source = SHARED / "tokenizers" / folder
    with lzma.open(source / "tokenizer.json.xz") as packed:
        (into / "tokenizer.json").write_bytes(packed.read())
    (into / "tokenizer_config.json").write_bytes((source / "tokenizer_config.json").read_bytes())


def with_collator(given: Setting, collator: Callable[..., Any]) -> Setting:
    """The same setting under another collator."""
    return replace(given, collator=collator)
