"""Real tiny models: a config.json in a folder, small enough that full size takes a fraction of a second."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from vlcheck.model import catalogue
from vlcheck.model.build import transformers_config
from vlcheck.model.families import family_of
from vlcheck.model.families.gemma4 import SPECIAL_IDS
from vlcheck.model.family import CLIP_BOUNDS
from vlcheck.model.reference import build_reference

VISION_WRAPPERS = 14  # two encoder layers of seven projections each


def gemma4(*, clip: bool = True, audio: bool = False, experts: bool = False) -> dict[str, Any]:
    """Two text layers, two vision layers, Gemma 4 E2B in miniature; no per-layer inputs, no shared caches."""
    values = json.loads(json.dumps(_entry("google/gemma-4-E2B-it")))
    text = values["text_config"]
    text.update(hidden_size_per_layer_input=0, num_kv_shared_layers=0, use_bidirectional_attention="vision")
    if experts:
        text.update(enable_moe_block=True, num_experts=4, top_k_experts=2, moe_intermediate_size=16)
    values["vision_config"]["use_clipped_linears"] = clip
    if not audio:
        values["audio_config"] = None
    return _roomy(_shrunk(values, {"model.language_model.layers": (0, 4)}))


def gemma4_shared() -> dict[str, Any]:
    """E2B in miniature with its shared keys and values: two layers that own a cache, two that borrow it."""
    values = json.loads(json.dumps(_entry("google/gemma-4-E2B-it"))) | {"audio_config": None}
    return _roomy(_shrunk(values, {"model.language_model.layers": (0, 4, 15, 19)}))


def gemma4_per_layer() -> dict[str, Any]:
    """E4B in miniature with its per-layer inputs: eleven layers that own a cache, ten of a kind, two that borrow it."""
    values = json.loads(json.dumps(_entry("google/gemma-4-E4B-it"))) | {"audio_config": None}
    return _roomy(_shrunk(values, {"model.language_model.layers": (0,) * 10 + (5, 24, 29)}))


def gemma4_deep() -> dict[str, Any]:
    """All sixty text layers of the 31B, each of them tiny; clipping, unlike the real one."""
    values = json.loads(json.dumps(_entry("google/gemma-4-31B-it")))
    values["vision_config"]["use_clipped_linears"] = True
    return _roomy(_shrunk(values, {"model.language_model.layers": tuple(range(60))}))


def llava_deep() -> dict[str, Any]:
    """Ten text layers of LLaVA 1.5, all alike: some of them stand for the rest."""
    return _shrunk(_entry("llava-hf/llava-1.5-7b-hf"), {"model.language_model.layers": tuple(range(10))})


def gemma4_wide() -> dict[str, Any]:
    """The two-layer model with the real width of a global attention head."""
    values = gemma4()
    values["text_config"].pop("per_layer_config", None)
    values["text_config"]["global_head_dim"] = 512
    return values


def gemma3() -> dict[str, Any]:
    """Two text layers, two vision layers."""
    return _shrunk(_entry("google/gemma-3-4b-it"), {"model.language_model.layers": (0, 5)})


RARE = 1_000
"""Special tokens from this id on stand behind the words of a small vocabulary."""


@cache
def small_vocabulary() -> Path:
    """The recipe's model as a folder with its processor; a training step takes a third of the time.

    1,024 ids instead of 262,144, 2 x 2 patches a soft token instead of 3 x 3, and soft tokens that see only what stands
    before them, as in E2B and E4B. All else is the recipe's.
    """
    from vlcheck.processing.fallback import build_fallback

    values = json.loads(json.dumps(_entry("vlcheck/tiny-gemma4")))
    family = family_of(values)
    made = family.fallback
    assert made is not None
    rare = sorted(number for number in made.tokens.values() if number >= RARE)
    moved = {number: RARE + place for place, number in enumerate(rare)}
    values.update({key: moved[number] for key, number in values.items() if key in SPECIAL_IDS})
    values["text_config"].update(vocab_size=1_024, vocab_size_per_layer_input=1_024, use_bidirectional_attention=None)
    values["vision_config"]["pooling_kernel_size"] = 2
    tokens = {token: moved.get(number, number) for token, number in made.tokens.items()}
    processor = build_fallback(replace(family, fallback=replace(made, tokens=tokens)), values)
    folder = write_folder(Path(_kept().name), values)
    processor.tokenizer.save_pretrained(folder)
    processor.image_processor.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(processor.chat_template, "utf-8")
    return folder


@cache
def _kept() -> tempfile.TemporaryDirectory[str]:
    """Gone when the process ends."""
    return tempfile.TemporaryDirectory(prefix="vlcheck-tiny-")


def write_folder(folder: Path, values: dict[str, Any], bounds: dict[str, float] | None = None) -> Path:
    """A local model folder; with bounds, also a checkpoint that stores these four for every vision wrapper."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values))
    if bounds is not None:
        write_checkpoint(
            folder, {f"{name}.{bound}": value for name in wrappers(values) for bound, value in bounds.items()}
        )
    return folder


def write_checkpoint(folder: Path, scalars: dict[str, float]) -> None:
    """A safetensors file that holds these scalars and nothing else."""
    import torch
    from safetensors.torch import save_file

    save_file({name: torch.tensor(value) for name, value in scalars.items()}, folder / "model.safetensors")


def wrappers(values: dict[str, Any]) -> list[str]:
    """Paths of a model's clip wrappers."""
    return _wrappers(json.dumps(values))


@cache
def _wrappers(values: str) -> list[str]:
    config = json.loads(values)
    family = family_of(config)
    return [n for n, m in build_reference(config).named_modules() if type(m).__name__ == family.clip_wrapper]


def shrunken(hub_id: str) -> dict[str, Any]:
    """A known model with the first two layers of each list."""
    return _shrunk(_entry(hub_id), {})


FINITE = dict(zip(CLIP_BOUNDS, (-1.0, 1.0, -2.0, 2.0), strict=True))


def _entry(hub_id: str) -> dict[str, Any]:
    found = catalogue.lookup(hub_id)
    assert found is not None
    return dict(found.config)


def _roomy(values: dict[str, Any]) -> dict[str, Any]:
    """With positions for all patches of an image that the processor cuts; the miniature has 4 x 4."""
    values["vision_config"]["position_embedding_size"] = 64
    return values


def _shrunk(values: dict[str, Any], text: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    return json.loads(_shrunk_text(json.dumps(values), tuple(text.items())))


@cache
def _shrunk_text(values: str, text: tuple[tuple[str, tuple[int, ...]], ...]) -> str:
    parsed = json.loads(values)
    full, family = transformers_config(parsed).to_dict(), family_of(parsed)
    layers = {path: _one_of_each(kinds) for path, kinds in family.layer_kinds(full).items()} | dict(text)
    return json.dumps(family.shrink(full, layers))


def _one_of_each(kinds: Any) -> tuple[int, ...]:
    """The first layer of each kind, or the first two where all are alike."""
    firsts = tuple(list(kinds).index(kind) for kind in dict.fromkeys(kinds))
    return firsts if len(firsts) > 1 else (0, 1)


def no_projection() -> str:
    """Stands where a run names no card: what it would take is not asked here, and costs seconds a model."""
    return "projected: not here"
