"""The stand-in's model: a small Gemma 4 of real classes, its processor, and the folder that holds both.

Everything is as in the recipe `tiny` but for widths, depth, 2 x 2 patches a soft token, and a vocabulary of 1,024 ids.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, trainers
from torch import nn

from tests.gpu.standin.animals import QUESTIONS, caption
from vlcheck.data.drawn_animals import KINDS
from vlcheck.model import catalogue
from vlcheck.model.build import transformers_config
from vlcheck.model.families import family_of
from vlcheck.model.families.gemma4 import SPECIAL_IDS
from vlcheck.model.family import CLIP_BOUNDS
from vlcheck.processing.fallback import CORPUS, build_fallback

RARE, WORDS = 1_000, 1_024
"""Special tokens from id `RARE` on stand behind the words of a vocabulary of `WORDS`."""
SOFT_TOKENS, POOL, PATCH = 70, 2, 16
CORPUS_LETTERS = tuple("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;?!'-_")
TEXTS = (*(text for text in CORPUS for _ in range(2)), *(" ".join(QUESTIONS), *map(caption, KINDS)))
"""What the tokenizer learns its words from; no breed is among them."""


@dataclass(frozen=True)
class Size:
    """How large a stand-in is."""

    vision_width: int = 192
    vision_hidden: int = 512
    vision_layers: int = 4
    text_width: int = 256
    text_hidden: int = 640
    text_layers: int = 4


GPU = Size()
CPU = Size(96, 192, 3, 128, 256, 3)
"""Of the variant that a CPU trains."""


def config_of(size: Size) -> dict[str, Any]:
    """A config.json: sliding layers that see an image both ways, and a last one that is causal throughout."""
    found = catalogue.lookup("vlcheck/tiny-gemma4")
    assert found is not None
    values: dict[str, Any] = json.loads(json.dumps(dict(found.config)))
    moved = _moved(values)
    values.update({key: moved[number] for key, number in values.items() if key in SPECIAL_IDS})
    values.update(initializer_range=0.02)
    values["text_config"].update(
        vocab_size=WORDS, vocab_size_per_layer_input=WORDS, hidden_size=size.text_width, initializer_range=0.02,
        intermediate_size=size.text_hidden, num_hidden_layers=size.text_layers, num_attention_heads=4,
        num_key_value_heads=2, head_dim=size.text_width // 4, global_head_dim=size.text_width // 2,
        layer_types=["sliding_attention"] * (size.text_layers - 1) + ["full_attention"], use_double_wide_mlp=False,
    )  # fmt: skip
    heads = size.vision_width // 32
    values["vision_config"].update(
        hidden_size=size.vision_width, intermediate_size=size.vision_hidden, num_hidden_layers=size.vision_layers,
        num_attention_heads=heads, num_key_value_heads=heads, head_dim=32, global_head_dim=32, initializer_range=0.02,
        pooling_kernel_size=POOL, patch_size=PATCH, position_embedding_size=256,
    )  # fmt: skip
    return values


def _moved(values: dict[str, Any]) -> dict[int, int]:
    made = family_of(values).fallback
    assert made is not None
    rare = sorted(number for number in made.tokens.values() if number >= RARE)
    return {number: RARE + place for place, number in enumerate(rare)}


def processor_of(values: dict[str, Any]) -> Any:
    """The family's real processor classes around a tokenizer of few words, its special tokens moved into them."""
    full = catalogue.lookup("vlcheck/tiny-gemma4")
    assert full is not None
    family, moved = family_of(values), _moved(dict(full.config))
    made = family.fallback
    assert made is not None
    tokens = {token: moved.get(number, number) for token, number in made.tokens.items()}
    processor = build_fallback(replace(family, fallback=replace(made, tokens=tokens)), values)
    processor.image_processor.max_soft_tokens = SOFT_TOKENS
    _teach_words(processor.tokenizer, frozenset(tokens))
    return processor


def _teach_words(tokenizer: Any, special: frozenset[str]) -> None:
    """Cut what captions say into whole words; all else of the tokenizer stays, its special ids above all."""
    backend = tokenizer.backend_tokenizer
    spelt = json.loads(backend.to_str())
    learner = Tokenizer(models.BPE(byte_fallback=True))
    learner.normalizer, learner.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    learner.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=WORDS // 2, show_progress=False))
    learnt = json.loads(learner.to_str())["model"]
    kept = {word: number for word, number in spelt["model"]["vocab"].items() if word in special}
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    free = iter(sorted(set(range(RARE)) - set(kept.values())))
    words = [word for word in [*bytes_, *CORPUS_LETTERS, *learnt["vocab"]] if word not in kept]
    spelt["model"]["vocab"] = kept | {word: next(free) for word in dict.fromkeys(words)}
    spelt["model"]["merges"] = learnt["merges"]
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(spelt))


def fresh(values: dict[str, Any], seed: int, device: str) -> Any:
    """The model before it has learnt anything, fp32.

    transformers starts every norm at 1. Behind the norms of queries and keys, whose products are not scaled down by
    the width of a head, attention would start as an argmax; here these norms start where products have variance 1.
    """
    from transformers import AutoModelForImageTextToText

    torch.manual_seed(seed)
    model: Any = AutoModelForImageTextToText.from_config(transformers_config(values), dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("q_norm.weight", "k_norm.weight")):
                parameter.fill_(parameter.numel() ** -0.25)
            elif name.endswith("position_embedding_table"):
                parameter.normal_(0, 0.3)
    return model.to(device)


def take_weights(model: nn.Module, folder: Path) -> None:
    """The weights of a base that `write` wrote, in place; clip bounds stay open, they are those of other weights."""
    from safetensors.torch import load_file

    kept = load_file(folder / "model.safetensors")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(kept[name])


def wrappers(model: nn.Module) -> dict[str, nn.Module]:
    """Clip wrappers by path."""
    return {name: module for name, module in model.named_modules() if type(module).__name__ == "Gemma4ClippableLinear"}


class Extremes:
    """Least and largest activation before and behind each wrapper's layer, while it watches."""

    def __init__(self, model: nn.Module) -> None:
        self.seen: dict[str, list[torch.Tensor]] = {}
        self._hooks = [
            module.register_forward_hook(lambda _, given, made, name=name: self._see(name, given[0], made))
            for name, module in wrappers(model).items()
        ]

    def _see(self, name: str, given: torch.Tensor, made: torch.Tensor) -> None:
        now = [given.amin(), given.amax(), made.amin(), made.amax()]
        old = self.seen.get(name, now)
        self.seen[name] = [pick(a, b) for pick, a, b in zip((min_, max_, min_, max_), old, now, strict=True)]

    def close(self) -> dict[str, list[float]]:
        """What was seen, by wrapper, in the order of `CLIP_BOUNDS`."""
        for hook in self._hooks:
            hook.remove()
        return {name: [float(value) for value in values] for name, values in self.seen.items()}


min_, max_ = torch.minimum, torch.maximum


def set_bounds(model: nn.Module, bounds: dict[str, list[float]]) -> None:
    """Give each wrapper its four bounds, in the order of `CLIP_BOUNDS`."""
    for name, module in wrappers(model).items():
        for bound, value in zip(CLIP_BOUNDS, bounds[name], strict=True):
            getattr(module, bound).fill_(value)


def write(folder: Path, model: Any, values: dict[str, Any]) -> Path:
    """The model as a folder that a run can name: config, bf16 safetensors, processor."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    write_processor(folder, values)
    state = {
        name: tensor.detach().to("cpu", torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"  # tied
    }
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_processor(folder: Path, values: dict[str, Any]) -> None:
    """config.json and the processor's files."""
    (folder / "config.json").write_text(json.dumps(values, indent=1) + "\n", "utf-8")
    processor = processor_of(values)
    processor.tokenizer.save_pretrained(folder)
    processor.image_processor.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(processor.chat_template, "utf-8")
