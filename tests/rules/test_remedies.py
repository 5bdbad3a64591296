"""A setting that a finding advises is applied to the run that caused it: the finding goes, and nothing worse comes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, replace
from typing import Any

import pytest
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tests import tiny
from tests.broken import patches
from tests.samples import (
    BROKEN,
    LANGUAGE,
    LANGUAGE_LIST,
    NF4,
    PROJECTOR,
    ROWS,
    TOWER_LIST,
    TRAIN_ALL,
    VISION,
    Run,
    audio,
    experts,
    llava,
    run,
    targets,
    unknown_here,
)  # fmt: skip
from vlcheck import spec as description
from vlcheck.engine import audit
from vlcheck.evidence.collectors import COLLECTORS
from vlcheck.finding import Finding, Report
from vlcheck.rules import RULES
from vlcheck.spec import AttentionByPart, Hardware, Intent, RunSpec, Training

SECTIONS: Mapping[str, type] = {
    "model": description.ModelRef, "quantization": description.Quantization, "lora": description.Lora,
    "data": description.Data, "training": description.Training, "hardware": description.Hardware,
    "launch": description.Launch, "intent": description.Intent,
}  # fmt: skip
HOME = {field.name: section for section, of in SECTIONS.items() for field in fields(of)}
SETTINGS = ("VLC1", "VLC4", "VLC8")
"""Rules of what settings of the model and the adapters do; a card and a collator bring their own."""
TWICE = {"memory_gib"}
"""Keys of two sections: a fix has to name the section."""


def gemma3() -> dict[str, Any]:
    """A tiny Gemma 3, whose projector is a bare parameter."""
    return tiny.shrunken("google/gemma-3-4b-it")


def qwen() -> dict[str, Any]:
    """A tiny Qwen2.5-VL."""
    return tiny.shrunken("Qwen/Qwen2.5-VL-3B-Instruct")


SUFFIXES = ("q_proj", "k_proj", "v_proj", "o_proj")
OLD_REGEX = r"language_model.model.layers.[\d]+.(mlp|self_attn).(up|down|gate|q|k|v|o)_proj"
FROZEN_TOWER = Intent(vision="freeze", projector="train", language="train")

BROTHERS: dict[str, Run] = {
    "exclude what is never a target": run(qwen, lora=targets("all-linear", exclude_modules=".*lm_head.*")),
    "exclude a head by name": run(qwen, lora=targets("all-linear", exclude_modules=("lm_head",))),
    "idle entry beside a working one": run(
        lora=targets("all-linear", exclude_modules=("vision_tower", "embedding_projection")), intent=Intent()
    ),
    "two towers, one idle, an exclude that works": run(
        audio, lora=targets("all-linear", exclude_modules=".*embed_vision.*"), intent=Intent()
    ),
    "tower named by its end": run(audio, lora=targets("all-linear"), intent=FROZEN_TOWER),
    "bare projector, silent": run(gemma3, lora=targets("all-linear"), intent=Intent()),
    "bare projector, meant": run(gemma3, lora=targets("all-linear")),
    "bare projector, meant, language alone": run(gemma3, lora=targets(LANGUAGE), intent=Intent(projector="train")),
    "saved projector, meant to be frozen": run(
        gemma3, lora=targets("all-linear", modules_to_save=("multi_modal_projector",)),
        intent=Intent(projector="freeze"),
    ),
    "towers alone, tower frozen": run(lora=targets(f"{VISION}|{PROJECTOR}"), intent=FROZEN_TOWER),
    "language alone, tower frozen": run(lora=targets(LANGUAGE), intent=FROZEN_TOWER),
    "everything excluded that is meant": run(lora=targets("all-linear", exclude_modules=".*vision_tower.*")),
    "wrapper named, tower frozen": run(lora=targets(("q_proj", "v_proj")), intent=Intent(vision="freeze")),
    "regex in a list": run(qwen, lora=targets((r"model\.language_model\.layers.*\.(q|v)_proj", "down_proj"))),
    "regex in a list, nothing else": run(qwen, lora=targets((r"layers\.[0-9]+\.self_attn\.(q|v)_proj",))),
    "old path, regex in a list": run(qwen, lora=targets((OLD_REGEX,))),
    "old path as a regex": run(qwen, lora=targets(f".*{OLD_REGEX}")),
    "old path by name": run(qwen, lora=targets(("language_model.model.layers.0.self_attn.q_proj", "down_proj"))),
    "regex that hits containers": run(qwen, lora=targets(r"^(model)(?!.*(lm_head|output|emb|wte|shared)).*")),
    "heads too wide for flash, a tower without sdpa": run(
        lambda: {**tiny.gemma4_wide(), "audio_config": audio()["audio_config"]}, attn="flash_attention_2",
        lora=targets("all-linear", exclude_modules=".*audio.*"),
    ),
    "a tower without sdpa, by part": run(
        audio, attn=AttentionByPart(text_config="sdpa", audio_config="sdpa"),
        lora=targets("all-linear", exclude_modules=".*audio.*"),
    ),
    "float16 storage": run(dtype="float16"),
    "float16 compute": run(quantization=replace(NF4, bnb_4bit_compute_dtype="float16")),
    "clip alone above what helped": run(tiny.gemma4_deep, training=Training(gradient_checkpointing=True,
                                                                          max_grad_norm=1.0, learning_rate=5e-5)),
    "experts meant": run(experts, intent=replace(TRAIN_ALL, experts="train"),
                         lora=targets("all-linear", lora_dropout=0.05)),
    "router meant": run(experts, intent=replace(TRAIN_ALL, router="train", experts="freeze"), lora=targets(LANGUAGE)),
    "layers by index": run(lora=targets([*LANGUAGE_LIST], layers_to_transform=(0,))),
    "dropped layer on two GPUs, an exclude": run(
        llava, hardware=Hardware(count=2), intent=Intent(),
        lora=targets("all-linear", exclude_modules=".*multi_modal_projector.*"),
    ),
    "tied head beside another": run(lora=targets("all-linear", modules_to_save=("lm_head", "embed_vision"))),
    "skip list, a path of another model": run(
        quantization=replace(NF4, llm_int8_skip_modules=("lm_head", "language_model.x"))
    ),
    "tower frozen by its framework, meant": run(
        training=Training(framework="llamafactory", freeze=("vision", "projector", "audio"))
    ),
    "parts frozen by their framework, silent": run(
        audio, intent=Intent(), training=Training(framework="ms-swift", freeze=("vision", "projector", "audio"))
    ),
    "no targets, layers picked by name": run(
        qwen, lora=targets(None), intent=Intent(projector="train"), training=Training(framework="unsloth")
    ),
    "unset, of a model without targets of PEFT": run(qwen, lora=targets(None), intent=Intent()),
    "list of the tower's linears": run(lora=targets(TOWER_LIST), intent=Intent()),
}  # fmt: skip
"""Runs that bring up a rule's finding in another way than its broken sample does."""

RUNS = {**BROKEN, **BROTHERS}


def needs(evidence: str, *, of: Callable[..., Any]) -> bool:
    """Whether a rule or a collector asks for this evidence, itself or by way of what it asks for."""
    asked = inspect.signature(of).parameters.keys() & COLLECTORS.keys()
    return evidence in asked or any(needs(evidence, of=COLLECTORS[name]) for name in asked)


STRUCTURAL = tuple(rule.code for rule in RULES if rule.code.startswith(SETTINGS) and not needs("tiny", of=rule.check))
"""Rules of settings that are judged without running a miniature."""


@pytest.mark.parametrize("beside", [
    pytest.param(STRUCTURAL, id="structure"), pytest.param(SETTINGS, id="behaviour", marks=pytest.mark.slow),
])  # fmt: skip
@pytest.mark.parametrize("name", RUNS)
def test_advice_works(name, beside, tmp_path):
    """Every alternative of a fix that is settings is applied: that finding goes, nothing as bad comes.

    An alternative that writes `key: value` of the config is settings from its first word to its last, and each
    brother has one.

    Args:
        beside: rules of which nothing new may speak up. Those that run a miniature speak in the slow run, and where
            they gave the advice.
    """
    if reason := unknown_here(name):
        pytest.skip(reason)
    sample = RUNS[name]
    collected = sample.collected(tmp_path, [rule for rule in RULES if rule.code == name])
    before = collected.audit(select=(name,) if name in BROKEN else SETTINGS)
    advised = [(o.rule, f, a) for o in before.found() for f in o.findings for a in alternatives(f)]
    for rule, _, advice in advised:
        written = {*re.findall(r"\b(\w+): ", advice)} & {*HOME, *SECTIONS}
        assert settings(advice) or not written, f"{rule.code}: {advice!r} cannot be typed"
    advised = [(rule, finding, advice) for rule, finding, advice in advised if settings(advice)]
    assert advised or name in BROKEN
    memory = ("VLC3",) if "gpu" in sample.given else ()
    selected = (*{*beside, *memory, *(rule.code for rule, _, _ in advised)},)
    if advised and name in BROKEN:
        before = collected.audit(select=selected)
    spec = collected.spec
    for rule, finding, advice in advised:
        after = judged(sample, applied(spec, settings(advice)), selected)
        assert key(rule.code, finding) not in keys(after), f"{rule.code}: {advice!r} leaves {finding.message}"
        new = {
            (o.rule.code, f.message)
            for o in after.found(rule.severity)
            for f in o.findings
            if key(o.rule.code, f) not in keys(before)
        }
        assert not new, f"{rule.code}: {advice!r} brings {new}"


def judged(sample: Run, spec: RunSpec, selected: tuple[str, ...]) -> Report:
    """The report on a run that differs from a sample's in its description alone."""
    with patches.undone():
        return audit(spec, allow_code=True, offline=True, rows=ROWS, select=selected, **sample.handed())


def key(code: str, finding: Finding) -> tuple[str, str]:
    """What makes two findings of two reports the same one."""
    part = re.match(r"[\w ]+(?=:| is)", finding.message)
    return code, finding.where.key + (part[0] if part else "")


def keys(report: Report) -> set[tuple[str, str]]:
    return {key(o.rule.code, f) for o in report.found() for f in o.findings}


def alternatives(finding: Finding) -> list[str]:
    """What a fix offers to choose from; the memory rules put the peak behind it."""
    fix = re.sub(r": [\d.]+ GiB$", "", finding.fix).replace(" with gradient_accumulation", ", gradient_accumulation")
    return [part for part in re.split(r"; or |, or ", fix) if part]


def settings(advice: str) -> dict[str, Any]:
    """Dotted field to value, where every word of the advice is a setting; else nothing."""
    try:
        read = YAML(typ="safe", pure=True).load("{" + advice + "}")
    except YAMLError:
        return {}
    changes: dict[str, Any] = {}
    for name, value in (read or {}).items():
        if str(name).startswith("remove ") and value is None and name[7:] in HOME:
            field = next(f for f in fields(SECTIONS[HOME[name[7:]]]) if f.name == name[7:])
            default = field.default if field.default is not MISSING else field.default_factory()
            changes[f"{HOME[field.name]}.{field.name}"] = default
        elif name in SECTIONS and isinstance(value, dict):
            changes |= {f"{name}.{inner}": plain(inner, given) for inner, given in value.items()}
        elif name in HOME and name not in TWICE and value is not None:
            changes[f"{HOME[name]}.{name}"] = plain(name, value)
        else:
            return {}
    return changes


def plain(name: str, value: Any) -> Any:
    if name == "gradient_checkpointing_kwargs":
        return description.CheckpointingKwargs(**value)
    return tuple(value) if isinstance(value, list) else value


def applied(spec: RunSpec, changes: Mapping[str, Any]) -> RunSpec:
    """The run with these fields changed, section by section: some exclude each other on the way."""
    sections: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        section, _, name = path.partition(".")
        sections.setdefault(section, {})[name] = value
    return replace(spec, **{name: replace(getattr(spec, name), **values) for name, values in sections.items()})
