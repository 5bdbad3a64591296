"""VLC1xx: whether PEFT and transformers take the run's settings, and whether each entry does something."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, Json, NotApplicable, Severity, rule
from vlcheck.model.family import Family, Part

if TYPE_CHECKING:
    from torch import nn

    from vlcheck.evidence.model import Attention, Skeleton
    from vlcheck.model.misnamed import Misnamed
    from vlcheck.model.targets import Targets
    from vlcheck.spec import Lora, RunSpec


@rule("VLC102", "adapters-refused", Severity.ERROR, explains=("VLC109",))
def adapters_refused(
    spec: RunSpec, lora: Lora, skeleton: Skeleton, family: Family, reference: nn.Module
) -> Iterator[Finding | Examined]:
    """PEFT refuses the adapters for another reason, so the run never starts.

    vlcheck attaches the adapters with the PEFT that is installed here; the message is PEFT's own.
    Typical causes: targets that match no module (a regex inside a list, a path of another transformers
    version), a regex that hits containers beside layers, settings that exclude each other.

    Remedy: as the finding says; where it names no setting, whatever PEFT's message asks for.

    Source: https://huggingface.co/docs/peft/package_reference/lora
    """
    yield Examined(1, "attempt to attach adapters")
    if skeleton.refusal and not skeleton.refused(family.clip_wrapper):
        cause, fix = _cause(spec, lora, reference, family)
        yield Finding(
            f"PEFT refuses the adapters: {_short(skeleton.refusal)}{cause and f'; {cause}'}",
            where=spec.where("lora.target_modules"),
            measured={} if _short(skeleton.refusal) == skeleton.refusal else {"PEFT says": skeleton.refusal},
            fix=fix,
        )


@rule("VLC108", "idle-exclude", Severity.WARNING)
def idle_exclude(
    spec: RunSpec, lora: Lora, targets: Targets, reference: nn.Module, family: Family
) -> Iterator[Finding | Examined]:
    """An `exclude_modules` entry excludes nothing.

    A list entry matches a module's exact path or the end of it, so a parent's name (`vision_tower`)
    excludes none of its children. A string is a regex that must match the whole path. And what no target
    names needs no exclusion: `all-linear` leaves out the head by itself.

    Remedy: as the finding says: a regex (`exclude_modules: '.*vision_tower.*'`), or no entry at all.

    Source: https://github.com/huggingface/peft/issues/3130
    """
    from vlcheck.model.target_fixes import excludes
    from vlcheck.model.targets import parts_by_path

    if not lora.exclude_modules:
        raise NotApplicable("no exclude_modules")
    count = 1 if isinstance(lora.exclude_modules, str) else len(lora.exclude_modules)
    yield Examined(count, "exclude entries")
    of = parts_by_path(reference, family)
    meant = {n for n in targets.modules if (part := of[n]) and getattr(spec.intent, part.intent) == "train"}
    fix = excludes(lora, targets, meant) if targets.idle_excludes else ""
    for key, entry in targets.idle_excludes.items():
        yield Finding(
            f"exclude_modules entry {entry!r} removes none of the {len(targets.modules)} targeted modules",
            where=spec.where(key),
            measured={"entry": entry, "modules removed": 0},
            fix=fix,
        )


@rule("VLC109", "unmatched-target", Severity.WARNING)
def unmatched_target(
    spec: RunSpec, lora: Lora, targets: Targets, reference: nn.Module, family: Family
) -> Iterator[Finding | Examined]:
    """A target entry matches no module of this model.

    PEFT accepts a list as long as one entry matches; the others are dropped without a word. A name
    copied from another model (`out_proj`, `c_attn`) or misspelt leaves its layers frozen.

    An entry of a list is the end of a path and never a regex, and transformers 4.52 to 5 moved the parts of
    these models: `language_model.model.layers` is `model.language_model.layers` now.

    Remedy: correct or remove the entry.

    Source: measured; see the target tests. https://github.com/axolotl-ai-cloud/axolotl/issues/2792
    """
    from vlcheck.model.misnamed import explain

    yield Examined(targets.entries, "target, exclude and save entries")
    misnamed = explain(reference, lora) if targets.unmatched else None
    for key, entry in targets.unmatched.items():
        reason = misnamed.reasons.get(entry, "") if misnamed and key.startswith("lora.target_modules") else ""
        yield Finding(
            f"{key.removeprefix('lora.').partition('.')[0]} entry {entry!r} matches no module"
            + (reason and f": {reason}"),
            where=spec.where(key),
            measured={"entry": entry, "modules matched": 0},
            fix=_mended(spec, lora, reference, family, misnamed)
            if misnamed and reason
            else "correct or remove the entry",
        )


@rule("VLC110", "attention-refused", Severity.ERROR)
def attention_refused(spec: RunSpec, attention: Attention) -> Iterator[Finding | Examined]:
    """A submodel refuses the requested attention implementation, so loading fails.

    `attn_implementation` is handed down to every submodel, or, as a mapping, to those whose sub-config it names.
    Gemma 4's audio encoder (E2B, E4B) runs eager attention only: transformers 5.23 raises ValueError for `sdpa`,
    `flash_attention_2` and `flex_attention`, where 5.17 took them. Judged by the version installed here.

    Remedy: leave `attn_implementation` unset; each submodel then takes the best one it supports.

    Source: transformers, models/gemma4/modeling_gemma4.py, Gemma4AudioModel
    """
    yield Examined(len(attention.accepted), "submodel classes")
    requested: Json = attention.requested if isinstance(attention.requested, str) else {**attention.requested}
    if refusing := [name for name, accepts in attention.accepted.items() if not accepts]:
        yield Finding(
            f"{', '.join(refusing)} does not support attn_implementation {attention.requested!r}",
            where=spec.where("model.attn_implementation"),
            measured={"requested": requested, "refusing": list(refusing)},
            fix="remove attn_implementation",
        )


@rule("VLC112", "parameter-dropout", Severity.ERROR, explains=("VLC102",))
def parameter_dropout(spec: RunSpec, lora: Lora) -> Iterator[Finding | Examined]:
    """`target_parameters` and `lora_dropout` exclude each other.

    PEFT adapts a bare parameter by adding the delta to it, so there is no input that dropout could act on;
    it raises ValueError for any dropout above zero.

    Remedy: `lora_dropout: 0`.

    Source: measured; see the target tests.
    """
    if not lora.target_parameters:
        raise NotApplicable("no target_parameters")
    yield Examined(len(lora.target_parameters), "target parameters")
    if lora.lora_dropout > 0:
        yield Finding(
            f"lora_dropout is {lora.lora_dropout:g}, and target_parameters allow none",
            where=spec.where("lora.lora_dropout"),
            measured={"lora_dropout": lora.lora_dropout, "allowed": 0},
            fix="remove target_parameters" if spec.intent.experts == "freeze" else "lora_dropout: 0",
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
    from vlcheck.model.quantising import kept_from_quantising

    skips = list(spec.quantization.llm_int8_skip_modules or ()) if spec.quantization else []
    if not skips:
        raise NotApplicable("no llm_int8_skip_modules")
    yield Examined(len(skips), "skip entries")
    meant = [entry if kept_from_quantising(reference, entry) else _from_the_start(reference, entry) for entry in skips]
    for index, entry in enumerate(skips):
        if not kept_from_quantising(reference, entry):
            yield Finding(
                f"llm_int8_skip_modules entry {entry!r} matches no linear layer",
                where=spec.where(f"quantization.llm_int8_skip_modules.{index}"),
                measured={"entry": entry, "layers kept": 0},
                fix=f"llm_int8_skip_modules: [{', '.join(filter(None, meant))}]"
                if any(meant)
                else "remove llm_int8_skip_modules",
            )


def _cause(spec: RunSpec, lora: Lora, reference: nn.Module, family: Family) -> tuple[str, str]:
    """Why PEFT refuses the targets, and settings that it takes; nothing where the targets are not what it refuses."""
    from vlcheck.model.aim import aim
    from vlcheck.model.build import AdapterRefused
    from vlcheck.model.misnamed import explain
    from vlcheck.model.target_fixes import training
    from vlcheck.model.targets import linears, parts_by_path, resolve

    if lora.target_parameters:
        return "", ""
    try:
        targets = resolve(reference, lora, family, aim(spec, family).lora)
    except AdapterRefused:
        parts = [part for part in Part if part is Part.LANGUAGE or getattr(spec.intent, part.intent) == "train"]
        unset = lora.target_modules is None
        return "", training(reference, spec, family, parts, Part.LANGUAGE) if unset else ""
    misnamed = explain(reference, lora)
    if not targets.modules:
        fix = _mended(spec, lora, reference, family, misnamed) if misnamed.reasons else ""
        return "; ".join(dict.fromkeys(misnamed.reasons.values())), fix
    of, layers = parts_by_path(reference, family), linears(reference)
    containers = [name for name in targets.modules if not list(reference.get_submodule(name).parameters(recurse=False))]
    wanted = {of[name] for name in targets.modules if name in layers} - {None, Part.ROUTER}
    wanted = wanted or {of[name] for name in layers} - {None, Part.ROUTER}
    parts = [part for part in Part if part in wanted and getattr(spec.intent, part.intent) != "freeze"]
    cause = f"{len(containers)} of {len(targets.modules)} targeted modules are containers" if containers else ""
    return cause, training(reference, spec, family, parts, parts[0]) if parts else ""


def _mended(spec: RunSpec, lora: Lora, reference: nn.Module, family: Family, misnamed: Misnamed) -> str:
    """The entries as they were meant; where intent trains parts that they do not name, targets of those parts too."""
    from vlcheck.model.target_fixes import training
    from vlcheck.model.targets import parts_by_path, resolve

    of = parts_by_path(reference, family)
    hit = {of[name] for name in resolve(reference, replace(lora, target_modules=misnamed.targets), family).modules}
    meant = {part for part in of.values() if part and getattr(spec.intent, part.intent) == "train"}
    if meant <= hit:
        return misnamed.fix
    parts = [part for part in Part if part in meant | hit and getattr(spec.intent, part.intent) != "freeze"]
    return training(reference, spec, family, parts, min(meant - hit, key=lambda part: part.name))


def _short(refusal: str) -> str:
    """PEFT's message without the inside of a module that it quotes."""
    return re.sub(r"\(\n.*\n\)", "(...)", refusal, flags=re.DOTALL)


def _from_the_start(reference: nn.Module, entry: str) -> str:
    """The path that an entry is the end or a part of; empty where the model has none."""
    from vlcheck.model.quantising import kept_from_quantising

    paths = (name for name, _ in reference.named_modules() if f".{entry}." in f".{name}.")
    path = min(paths, key=len, default="")
    return path if path and kept_from_quantising(reference, path) else ""
