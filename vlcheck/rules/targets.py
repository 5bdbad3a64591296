"""VLC1xx: whether PEFT and transformers take the run's settings, and whether each entry does something."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, NotApplicable, Severity, rule
from vlcheck.model.family import Family

if TYPE_CHECKING:
    from torch import nn

    from vlcheck.evidence.model import Attention, Skeleton
    from vlcheck.model.targets import Targets
    from vlcheck.spec import RunSpec


@rule("VLC102", "adapters-refused", Severity.ERROR, explains=("VLC109",))
def adapters_refused(spec: RunSpec, skeleton: Skeleton, family: Family) -> Iterator[Finding | Examined]:
    """PEFT refuses the adapters for another reason, so the run never starts.

    vlcheck attaches the adapters with the PEFT that is installed here; the message is PEFT's own.
    Typical causes: targets that match no module, a module type that LoRA cannot adapt, settings that
    exclude each other.

    Remedy: whatever PEFT's message asks for; `target_modules: all-linear` fits every supported model.

    Source: https://huggingface.co/docs/peft/package_reference/lora
    """
    yield Examined(1, "attempt to attach adapters")
    if skeleton.refusal and not skeleton.refused(family.clip_wrapper):
        yield Finding(f"PEFT refuses the adapters: {skeleton.refusal}", where=spec.where("lora.target_modules"))


@rule("VLC108", "idle-exclude", Severity.WARNING)
def idle_exclude(spec: RunSpec, targets: Targets) -> Iterator[Finding | Examined]:
    """An `exclude_modules` entry excludes nothing.

    A list entry matches a module's exact path or the end of it, so a parent's name (`vision_tower`)
    excludes none of its children. A string is a regex that must match the whole path.

    Remedy: write a regex, for example `exclude_modules: '.*vision_tower.*'`.

    Source: https://github.com/huggingface/peft/issues/3130
    """
    if not spec.lora.exclude_modules:
        raise NotApplicable("no exclude_modules")
    count = 1 if isinstance(spec.lora.exclude_modules, str) else len(spec.lora.exclude_modules)
    yield Examined(count, "exclude entries")
    for key, entry in targets.idle_excludes.items():
        yield Finding(
            f"exclude_modules entry {entry!r} removes none of the {len(targets.modules)} targeted modules",
            where=spec.where(key),
            measured={"entry": entry, "modules removed": 0},
            fix=f"exclude_modules: '.*{entry.strip('.*')}.*'",
        )


@rule("VLC109", "unmatched-target", Severity.WARNING)
def unmatched_target(spec: RunSpec, targets: Targets) -> Iterator[Finding | Examined]:
    """A target entry matches no module of this model.

    PEFT accepts a list as long as one entry matches; the others are dropped without a word. A name
    copied from another model (`out_proj`, `c_attn`) or misspelt leaves its layers frozen.

    Remedy: correct or remove the entry.

    Source: measured; see the target tests.
    """
    yield Examined(targets.entries, "target, exclude and save entries")
    for key, entry in targets.unmatched.items():
        yield Finding(
            f"{key.removeprefix('lora.').partition('.')[0]} entry {entry!r} matches no module",
            where=spec.where(key),
            measured={"entry": entry, "modules matched": 0},
            fix="correct or remove the entry",
        )


@rule("VLC110", "attention-refused", Severity.ERROR)
def attention_refused(spec: RunSpec, attention: Attention) -> Iterator[Finding | Examined]:
    """A submodel refuses the requested attention implementation, so loading fails.

    `attn_implementation` is handed down to every submodel. Gemma 4's audio encoder (E2B, E4B) runs
    eager attention only: transformers 5.23 raises ValueError for `sdpa`, `flash_attention_2` and
    `flex_attention`, where 5.17 took them. Judged by the version installed here.

    Remedy: leave `attn_implementation` unset; each submodel then takes the best one it supports.

    Source: transformers, models/gemma4/modeling_gemma4.py, Gemma4AudioModel
    """
    yield Examined(len(attention.accepted), "submodel classes")
    if refusing := [name for name, accepts in attention.accepted.items() if not accepts]:
        yield Finding(
            f"{', '.join(refusing)} does not support attn_implementation {attention.requested!r}",
            where=spec.where("model.attn_implementation"),
            measured={"requested": attention.requested, "refusing": list(refusing)},
            fix="remove attn_implementation",
        )


@rule("VLC112", "parameter-dropout", Severity.ERROR, explains=("VLC102",))
def parameter_dropout(spec: RunSpec) -> Iterator[Finding | Examined]:
    """`target_parameters` and `lora_dropout` exclude each other.

    PEFT adapts a bare parameter by adding the delta to it, so there is no input that dropout could act on;
    it raises ValueError for any dropout above zero.

    Remedy: `lora_dropout: 0`.

    Source: measured; see the target tests.
    """
    if not spec.lora.target_parameters:
        raise NotApplicable("no target_parameters")
    yield Examined(len(spec.lora.target_parameters), "target parameters")
    if spec.lora.lora_dropout > 0:
        yield Finding(
            f"lora_dropout is {spec.lora.lora_dropout:g}, and target_parameters allow none",
            where=spec.where("lora.lora_dropout"),
            measured={"lora_dropout": spec.lora.lora_dropout, "allowed": 0},
            fix="lora_dropout: 0",
        )


@rule("VLC113", "idle-skip", Severity.WARNING)
def idle_skip(spec: RunSpec, reference: nn.Module) -> Iterator[Finding | Examined]:
    """An `llm_int8_skip_modules` entry keeps no layer from being quantised.

    An entry matches from the start of a module's path, as a regex, or as its end. `vision_tower` is
    neither for `model.vision_tower.encoder...`: the tower is quantised all the same. Renames between
    transformers versions (`vision_tower` became `model.vision_tower`) turn sound lists idle.

    Remedy: write the path from its start, for example `model.vision_tower`.

    Source: transformers, quantizers/quantizers_utils.py, should_convert_module
    """
    from vlcheck.model.build import kept_from_quantising

    skips = spec.quantization.llm_int8_skip_modules if spec.quantization else None
    if not skips:
        raise NotApplicable("no llm_int8_skip_modules")
    yield Examined(len(skips), "skip entries")
    for index, entry in enumerate(skips):
        if not kept_from_quantising(reference, entry):
            yield Finding(
                f"llm_int8_skip_modules entry {entry!r} matches no linear layer",
                where=spec.where(f"quantization.llm_int8_skip_modules.{index}"),
                measured={"entry": entry, "layers kept": 0},
                fix="write the module's path from its start",
            )
