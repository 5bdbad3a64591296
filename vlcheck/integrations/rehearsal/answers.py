"""What a script loads, answered here: models in miniature, processors from this machine, the first rows of its data."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, ProcessorMixin
from transformers.models.auto.auto_factory import _BaseAutoModelClass  # the class that all Auto models share

from vlcheck.collators.tiny_model import miniature_values
from vlcheck.integrations.description import quantization_of
from vlcheck.integrations.rehearsal.one_row import few_labels
from vlcheck.integrations.rehearsal.stage import Stage
from vlcheck.model.build import transformers_config
from vlcheck.model.config import ModelConfig, find_config
from vlcheck.model.families import family_of
from vlcheck.model.quantising import quantise, quantization_config
from vlcheck.model.random_weights import materialise, seeded
from vlcheck.processing.processor import find_processor
from vlcheck.spec import Lora, ModelRef, Quantization, RunSpec

SEED = 0
IDLE = frozenset({"trust_remote_code", "use_fast", "token", "revision", "local_files_only", "padding_side"})
"""Arguments without which a processor makes the same of images."""


def answer(stage: Stage) -> None:
    """Patch what scripts load with; each answer is noted when it is given."""
    for owner in (*_classes(_BaseAutoModelClass), *_classes(PreTrainedModel)):
        owner.from_pretrained = classmethod(functools.partial(_model, stage))
    for owner in (transformers.AutoProcessor, ProcessorMixin, transformers.AutoTokenizer):
        _processor(stage, owner)
    _config(stage)
    _generating(stage)
    _adapters(stage)


def _classes(base: Any) -> list[Any]:
    """A class and those that load in a way of their own."""
    own = [each for each in base.__subclasses__() if "from_pretrained" in vars(each)]
    return [base, *own]


def _model(stage: Stage, cls: Any, name: Any, *given: Any, **options: Any) -> Any:
    """The architecture of a model with few layers, random weights and the run's quantisation, on the CPU."""
    stage.mark("model")
    spec = _spec(name)
    found = find_config(spec, offline=True)
    dtype = _dtype(options.get("dtype", options.get("torch_dtype")), found)
    quantization = quantization_of(options.get("quantization_config")) or quantization_of(_short(options))
    tiny = transformers_config(miniature_values(found.values, family_of(found.values)))
    with seeded(SEED), torch.device("meta"):
        model = (
            cls._from_config(tiny, dtype=dtype) if hasattr(cls, "_from_config") else cls.from_config(tiny, dtype=dtype)
        )
    if quantization is not None:
        quantise(model, quantization, dtype=str(dtype).removeprefix("torch."))
        _mark_quantised(model, quantization)
    model.tie_weights()
    materialise(model, "cpu", SEED)
    few_labels(model)
    model.config._name_or_path = model.name_or_path = str(name)
    kind = "" if quantization is None else ", quantised"
    stage.replace(f"{name}: {type(model).__name__} in miniature{kind}, random weights ({found.origin})")
    for option, value in options.items():
        if option == "device_map" or (option == "attn_implementation" and value not in ("sdpa", "eager")):
            stage.replace(f"{option}={value!r}: left out, on the CPU")
    return model.eval()


def _mark_quantised(model: Any, quantization: Quantization) -> None:
    """What `from_pretrained` leaves on a quantised model, and trainers ask for; it has no public route."""
    from transformers.quantizers import AutoHfQuantizer

    settings = quantization_config(quantization)
    model.config.quantization_config = settings
    model.hf_quantizer = AutoHfQuantizer.from_config(settings, pre_quantized=False)
    model.is_quantized = True


def _short(options: Mapping[str, Any]) -> dict[str, Any]:
    """`load_in_4bit=True` where a `quantization_config` ought to stand."""
    return {name: options[name] for name in ("load_in_4bit", "load_in_8bit") if options.get(name)}


def _spec(name: Any) -> RunSpec:
    return RunSpec(model=ModelRef(id=str(name)), lora=Lora())


def _dtype(wanted: Any, found: ModelConfig) -> torch.dtype:
    values = found.values
    if wanted in (None, "auto"):
        wanted = values.get("dtype") or values.get("torch_dtype") or "float32"
    return wanted if isinstance(wanted, torch.dtype) else getattr(torch, str(wanted).removeprefix("torch."))


def _processor(stage: Stage, owner: Any) -> None:
    """What this machine has, else a stand-in."""
    whole = owner.from_pretrained.__func__

    def from_pretrained(cls: Any, name: Any, *given: Any, **options: Any) -> Any:
        try:
            return whole(cls, name, *given, **{**options, "local_files_only": True})
        except Exception:  # not here, or it needs torchvision
            spec = _spec(name)
            config = find_config(spec, offline=True)
            found = find_processor(spec, config, family_of(config.values), offline=True)
            left = ", ".join(sorted(name for name in set(options) - IDLE if not name.startswith("_")))
            stage.replace(f"processor of {name}: {found.origin}" + (f"; without {left}" if left else ""))
            return found.processor.tokenizer if cls is transformers.AutoTokenizer else found.processor

    owner.from_pretrained = classmethod(from_pretrained)


def _config(stage: Stage) -> None:
    whole = transformers.AutoConfig.from_pretrained.__func__

    def from_pretrained(cls: Any, name: Any, *given: Any, **options: Any) -> Any:
        try:
            return whole(cls, name, *given, **{**options, "local_files_only": True})
        except Exception:  # not on this machine
            found = find_config(_spec(name), offline=True)
            stage.replace(f"config of {name}: {found.origin}")
            config = transformers_config(found.values)
            return (config, {}) if options.get("return_unused_kwargs") else config

    transformers.AutoConfig.from_pretrained = classmethod(from_pretrained)


ENOUGH = 4
"""Ids that a miniature generates at most: what it says means nothing."""


def _generating(stage: Stage) -> None:
    whole = transformers.GenerationMixin.generate

    @functools.wraps(whole)
    def generate(self: Any, *given: Any, **options: Any) -> Any:
        stage.replace(f"generate: at most {ENOUGH} ids")
        return whole(self, *given, **{**options, "max_new_tokens": ENOUGH, "max_length": None})

    transformers.GenerationMixin.generate = generate


def _adapters(stage: Stage) -> None:
    """Which line wrote the settings of LoRA."""
    import peft

    whole = peft.LoraConfig.__post_init__

    def post_init(self: Any) -> None:
        if stage.line() is not None and "lora" not in stage.lines:
            stage.mark("lora")
        whole(self)

    peft.LoraConfig.__post_init__ = post_init
