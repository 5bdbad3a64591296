"""A tiny real run held in Python: a model with adapters, a processor, rows, a collator, an optimizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForImageTextToText

from tests.broken import collators
from tests.tiny import small_vocabulary
from vlcheck.engine import report_on
from vlcheck.evidence.resolve import Evidence
from vlcheck.finding import Report
from vlcheck.integrations.description import describe
from vlcheck.integrations.job import Job, Split, evidence_of
from vlcheck.model.config import ModelConfig
from vlcheck.model.families import family_of
from vlcheck.processing.processor import find_processor
from vlcheck.rules import choose_live
from vlcheck.spec import Data, Lora, ModelRef, RunSpec

TARGETS = r".*(language_model.*(q_proj|v_proj)|vision_tower.*(q_proj|v_proj)\.linear|embed_vision.*projection)$"


@cache
def config() -> dict[str, Any]:
    import json

    return json.loads((small_vocabulary() / "config.json").read_text())


def processor() -> Any:
    """A new one each time: some tests change its settings."""
    spec = RunSpec(model=ModelRef(id=str(small_vocabulary())), lora=Lora())
    spec = replace(spec, data=Data(max_soft_tokens=70))  # a quarter of the default: a quarter of the time
    found = ModelConfig(config(), "", small_vocabulary())
    return find_processor(spec, found, family_of(config()), offline=True).processor


@cache
def _weights() -> dict[str, torch.Tensor]:
    return _drawn().state_dict()


def _drawn() -> nn.Module:
    from vlcheck.model.build import transformers_config
    from vlcheck.model.random_weights import seeded

    with seeded(0):
        return AutoModelForImageTextToText.from_config(transformers_config(config()))


def base() -> nn.Module:
    """The same weights each time."""
    model = _drawn()
    model.load_state_dict(_weights())
    return model


def lora(**changed: Any) -> LoraConfig:
    options = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "target_modules": TARGETS} | changed
    return LoraConfig(**options)


def rows(count: int = 6) -> list[dict[str, Any]]:
    """One question about one picture each."""
    from PIL import Image

    draw = np.random.default_rng(0)
    made = []
    for number in range(count):
        image = Image.fromarray(draw.integers(0, 256, (48, 64, 3), dtype=np.uint8))
        asked = [{"type": "image"}, {"type": "text", "text": f"What is in picture {number}?"}]
        said = [{"type": "text", "text": ("a red circle", "two blue squares", "a cat")[number % 3]}]
        messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        made.append({"messages": messages, "images": [image]})
    return made


@dataclass
class Parts:
    """What a loop holds; a fault changes one of them."""

    model: Any
    processor: Any
    collator: Any
    rows: list[Any]
    evaluated: list[Any]
    optimizer: Any = None
    extra: dict[str, Any] = field(default_factory=dict)

    def built(self) -> Parts:
        """With the optimizer of what is trained, if there is none."""
        if self.optimizer is None:
            self.optimizer = torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], lr=1e-3)
        return self


def sound() -> Parts:
    """Adapters in both parts, training mode, answers alone supervised."""
    made = processor()
    torch.manual_seed(0)
    model = get_peft_model(base(), lora()).train()
    return Parts(model, made, collators.sound(made), rows(), rows(2))


def nothing(parts: Parts) -> None:
    """Leave the run as it is."""


def job_of(parts: Parts) -> Job:
    """A loop that holds these parts."""
    parts.built()
    return Job(
        parts.model,
        Split(batches=(parts.rows[:4],), collate=parts.collator),
        Split(batches=(parts.evaluated,), collate=parts.collator),
        processor=parts.processor,
        optimizer=parts.optimizer,
        mode=parts.model.training,
    )


@cache
def evidence(plant: Callable[[Parts], None] = nothing) -> Evidence:
    """Of the sound run with a fault planted in it, collected once for all tests."""
    parts = sound()
    plant(parts)
    return evidence_of(job_of(parts), describe(parts.model), rows=4)


def judged(plant: Callable[[Parts], None] = nothing, *select: str) -> Report:
    """The report on such a run."""
    found = evidence(plant)
    return report_on(found.get("spec"), choose_live(select), found)
