"""The catalogue's models without storage, sound settings for each, and each family in miniature."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

from tests import tiny
from tests.samples import LABELS, gathered
from vlcheck.evidence.resolve import Evidence
from vlcheck.model import catalogue
from vlcheck.model.build import transformers_config
from vlcheck.model.catalogue import Entry
from vlcheck.model.config import ModelConfig
from vlcheck.model.families import family_of
from vlcheck.model.family import Family, Part
from vlcheck.model.modules import ModuleTable, tabulate
from vlcheck.model.reference import build_reference
from vlcheck.spec import Intent, Lora, ModelRef, RunSpec, Training

ENTRIES: tuple[Entry, ...] = tuple(catalogue.entries())
NEEDS_TIMM = ("google/gemma-3n-E2B-it", "google/gemma-3n-E4B-it")
IDS = [entry.hub_id for entry in ENTRIES if entry.hub_id not in NEEDS_TIMM]
SMALLEST = (
    "google/gemma-4-E2B-it", "google/gemma-4-26B-A4B-it", "google/gemma-4-12B-it", "google/gemma-3-4b-it",
    "Qwen/Qwen2.5-VL-3B-Instruct", "Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen3-VL-30B-A3B-Instruct",
    "HuggingFaceTB/SmolVLM2-256M-Video-Instruct", "llava-hf/llava-1.5-7b-hf", "mistral-community/pixtral-12b",
    "llava-hf/llava-v1.6-mistral-7b-hf", "llava-hf/llava-onevision-qwen2-0.5b-ov-hf", "google/paligemma2-3b-pt-224",
    "OpenGVLab/InternVL3-1B-hf", "meta-llama/Llama-3.2-11B-Vision-Instruct",
    "mistralai/Mistral-Small-3.1-24B-Instruct-2503",
)  # fmt: skip
"""The smallest model of every structure that the catalogue holds, but for the next."""
KIN = (
    "Qwen/Qwen2-VL-2B-Instruct", "HuggingFaceTB/SmolVLM-Instruct", "HuggingFaceM4/Idefics3-8B-Llama3",
    "OpenGVLab/InternVL3_5-1B-HF", "llava-hf/llama3-llava-next-8b-hf", "google/paligemma-3b-pt-224",
)  # fmt: skip
"""The smallest of structures that differ from one of those in a few lines; most is asked of them with `-m slow`."""
PARTS_ONLY = ("zai-org/GLM-4.1V-9B-Thinking", "zai-org/GLM-4.5V")
"""Models of families without a tiny run."""

MIXTURES = ("google/gemma-4-26B-A4B-it", "Qwen/Qwen3-VL-30B-A3B-Instruct")

SOUND_EXCLUDES = {
    "google/gemma-4-E2B-it": r".*audio.*",
    "google/gemma-4-E4B-it": r".*audio.*",
    "google/gemma-4-12B-it": r".*audio.*",
    "google/gemma-4-26B-A4B-it": r".*\.router\..*",
}
"""What `all-linear` must leave out to be sound on images; nothing elsewhere."""


def entry(hub_id: str) -> Entry:
    """A catalogue entry."""
    return next(each for each in ENTRIES if each.hub_id == hub_id)


def family(hub_id: str) -> Family:
    """The family of a catalogue model."""
    return family_of(entry(hub_id).config)


@cache
def reference(hub_id: str) -> nn.Module:
    """A catalogue model on meta."""
    return build_reference(entry(hub_id).config)


@cache
def table(hub_id: str) -> ModuleTable:
    """Every module of a catalogue model, nothing adapted."""
    return tabulate(reference(hub_id), reference(hub_id), family(hub_id))


def sound(hub_id: str) -> RunSpec:
    """A sound run of a catalogue model on images."""
    return RunSpec(
        model=ModelRef(id=hub_id),
        lora=Lora(r=4, lora_alpha=4, target_modules="all-linear", exclude_modules=SOUND_EXCLUDES.get(hub_id)),
        training=Training(framework="vlcheck", gradient_checkpointing=True),
        intent=intent(hub_id),
    )


@cache
def intent(hub_id: str) -> Intent:
    """Train the three parts, as far as each has linear layers; leave experts alone."""
    parts = (Part.VISION, Part.PROJECTOR, Part.LANGUAGE)
    stated = {part.intent: "train" if linears(hub_id, part) else "freeze" for part in parts}
    return Intent(**stated, experts="freeze" if hub_id in MIXTURES else None)


@cache
def labels(hub_id: str) -> dict[str, Any]:
    """What label rules see of our collator on the miniature: no setting of adapters changes it."""
    config = ModelConfig(miniature(hub_id), "test")
    evidence = Evidence(sound(hub_id), {"config": config, "reference": small_reference(hub_id)}, offline=True)
    return gathered(evidence, LABELS)


@cache
def linears(hub_id: str, *parts: Part) -> list[str]:
    """Paths of the miniature's linear layers of these parts, the head aside."""
    model = small_reference(hub_id)
    rows = tabulate(model, model, family(hub_id)).rows
    return [row.name for row in rows if row.kind == "Linear" and row.part in parts and row.name != "lm_head"]


def only(hub_id: str, *parts: Part) -> str:
    """A regex for exactly these."""
    return "|".join(map(re.escape, linears(hub_id, *parts)))


@cache
def miniature(hub_id: str) -> dict[str, Any]:
    """The config of a model of the same structure, whose full size takes a fraction of a second."""
    full, record = transformers_config(entry(hub_id).config).to_dict(), family(hub_id)
    layers = {
        path: tuple(of.index(kind) for kind in dict.fromkeys(of)) if len(set(of)) > 1 else (0, 1)
        for path, of in record.layer_kinds(full).items()
    }
    shrunk: dict[str, Any] = json.loads(json.dumps(record.shrink(full, layers)))
    return shrunk


@cache
def small_reference(hub_id: str) -> nn.Module:
    """The miniature on meta."""
    return build_reference(miniature(hub_id))


def small(hub_id: str, folder: Path) -> RunSpec:
    """The sound run of the miniature."""
    path = tiny.write_folder(folder, miniature(hub_id))
    return replace(sound(hub_id), model=ModelRef(id=str(path), dtype="float32"))


def shapes(model: nn.Module) -> set[tuple[str, str]]:
    """Paths without indices, and classes: a model's structure."""
    return {(re.sub(r"\.\d+(?=\.|$)", "", name), type(module).__name__) for name, module in model.named_modules()}
