"""VLC4xx: which parts of the model the run trains, against what it means to train."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, Json, NotApplicable, Severity, rule
from vlcheck.model.family import Family, Part

if TYPE_CHECKING:
    from torch import nn

    from vlcheck.model.modules import ModuleRow, ModuleTable
    from vlcheck.model.targets import Targets
    from vlcheck.spec import Location, Lora, RunSpec

FED_BY = {Part.VISION: {"image", "video"}, Part.PROJECTOR: {"image", "video"}, Part.AUDIO: {"audio"}}
"""Modalities that reach a part; every other part sees each sample."""


@rule("VLC401", "language-not-adapted", Severity.ERROR)
def language_not_adapted(
    spec: RunSpec, modules: ModuleTable, reference: nn.Module, family: Family
) -> Iterator[Finding | Examined]:
    """The language model has no adapter.

    A list of `.linear` suffixes (`q_proj.linear`, ...) looks like a fix for PEFT's refusal of Gemma 4's
    clip wrapper. Wrappers occur in the vision and audio towers alone; the language model has plain
    linear layers, so such a list adapts the towers and nothing else. Training runs, and the loss moves.

    Remedy: `target_modules: all-linear`, or a regex that names both parts. If the language model is
    meant to stay frozen, say so: `intent: {language: freeze}`.

    Source: measured; github.com/GoogleCloudPlatform/devrel-demos ai-ml/finetune_gemma, commit f053d539
    """
    if spec.intent.language == "freeze":
        raise NotApplicable("intent: the language model is frozen")
    yield _trained(modules)
    if not modules.trained(Part.LANGUAGE) and not modules.trained(Part.EXPERTS):
        yield Finding(
            f"language model {'has no adapter' if spec.lora else 'is frozen'}: {_all_in(modules)}"
            f"{_by_framework(spec, Part.LANGUAGE)}",
            where=_decided(spec),
            measured=_census(modules),
            fix=trained_by(Part.LANGUAGE, spec, modules, reference, family),
        )


@rule("VLC402", "vision-not-adapted", Severity.ERROR, explains=("VLC404",))
def vision_not_adapted(
    spec: RunSpec, modules: ModuleTable, reference: nn.Module, family: Family
) -> Iterator[Finding | Examined]:
    """The run means to train the vision tower, and adapts nothing in it.

    PEFT's own default for Gemma 4 is a regex for the language model's q and v projections. A text
    recipe carried over leaves the tower as it was.

    Remedy: `target_modules: all-linear`, or add the tower to the regex. LoRA on `.linear` inside a clip
    wrapper is the sound place.

    Source: peft, utils/constants.py, TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    """
    yield from _meant_but_missing(spec, modules, Part.VISION, reference, family)


@rule("VLC403", "projector-not-adapted", Severity.ERROR, explains=("VLC404",))
def projector_not_adapted(
    spec: RunSpec, modules: ModuleTable, reference: nn.Module, family: Family
) -> Iterator[Finding | Examined]:
    """The run means to train the projector, and adapts nothing in it.

    Gemma 4's projector is one linear layer, which `all-linear` adapts and name lists miss. Gemma 3's is
    a bare parameter, which LoRA cannot adapt: there only `modules_to_save` trains it.

    Remedy: as the finding says.

    Source: transformers, models/gemma3/modeling_gemma3.py, Gemma3MultiModalProjector
    """
    yield from _meant_but_missing(spec, modules, Part.PROJECTOR, reference, family)


@rule("VLC404", "frozen-part", Severity.NOTE)
def frozen_part(
    spec: RunSpec, modules: ModuleTable, reference: nn.Module, family: Family
) -> Iterator[Finding | Examined]:
    """The vision tower or the projector is not trained, and nothing says whether that is meant.

    Training the language model alone is a common and sound choice, so this is a note. It gives the
    census: how many modules of each part carry an adapter.

    Remedy: say that it is meant (`intent: {vision: freeze}`), or train the part, as the finding says.

    Source: https://github.com/haotian-liu/LLaVA/issues/1703
    """
    yield _trained(modules)
    for part in (Part.VISION, Part.PROJECTOR):
        if part in modules.parts() and not modules.trained(part) and getattr(spec.intent, part.intent) is None:
            yield Finding(
                f"{part.value} is not trained: {_all_in(modules)}{_by_framework(spec, part)}",
                where=spec.where(f"intent.{part.intent}"),
                measured=_census(modules),
                fix="; or ".join(
                    filter(
                        None,
                        (f"intent: {{{part.intent}: freeze}}", trained_by(part, spec, modules, reference, family)),
                    )
                ),
            )


@rule("VLC405", "adapted-against-intent", Severity.ERROR)
def adapted_against_intent(
    spec: RunSpec, modules: ModuleTable, targets: Targets | None = None
) -> Iterator[Finding | Examined]:
    """A part that the run means to freeze is trained.

    Suffix names such as `q_proj` occur in the vision tower too, and `all-linear` reaches every part.

    Remedy: exclude the part with a regex, for example `exclude_modules: '.*vision_tower.*'`.

    Source: https://github.com/haotian-liu/LLaVA/issues/1647
    """
    from vlcheck.model.target_fixes import freezing, leaving_out

    frozen = [part for part in modules.parts() if getattr(spec.intent, part.intent) == "freeze"]
    if not frozen:
        raise NotApplicable("intent freezes no part of this model")
    for part in frozen:
        yield Examined(sum(1 for _ in modules.where(part=part)), f"modules of the {part.value}")
        if trained := modules.trained(part):
            yield Finding(
                f"{part.value} is meant to be frozen, but {trained} of its modules are trained",
                where=_decided(spec),
                measured=_census(modules),
                fix=leaving_out(spec.lora, targets, [row.name for row in modules.where(part=part)])
                if spec.lora and targets
                else freezing(spec, part),
            )


@rule("VLC411", "declared-part-missing", Severity.ERROR)
def declared_part_missing(
    spec: RunSpec, modules: ModuleTable, reference: nn.Module, family: Family
) -> Iterator[Finding | Examined]:
    """The run means to train audio tower, experts or router, and adapts nothing there, or the model has none.

    Remedy: add the part to the targets (experts need `target_parameters`), or drop it from `intent`.

    Source: https://github.com/huggingface/peft/issues/2527
    """
    parts = (Part.AUDIO, Part.EXPERTS, Part.ROUTER)
    meant = [part for part in parts if getattr(spec.intent, part.intent) == "train"]
    if not meant:
        raise NotApplicable("intent trains no audio tower, experts or router")
    for part in meant:
        yield Examined(sum(1 for _ in modules.where(part=part)), f"modules of the {part.value}")
        if not modules.trained(part):
            has = part in modules.parts()
            untrained = "carries no adapter" if spec.lora else "is frozen"
            yield Finding(
                f"{part.value}: meant to be trained, but {untrained if has else 'this model has none'}",
                where=spec.where(f"intent.{part.intent}"),
                measured=_census(modules),
                fix=trained_by(part, spec, modules, reference, family) if has else f"leave {part.intent} out of intent",
            )


@rule("VLC415", "part-half-adapted", Severity.WARNING)
def part_half_adapted(
    spec: RunSpec, lora: Lora, modules: ModuleTable, targets: Targets
) -> Iterator[Finding | Examined]:
    """Names meant for another part adapt some layers of the vision tower or the projector, and pass over the rest.

    A list of names matches wherever they occur. `q_proj`, `k_proj`, `v_proj`, `o_proj` are the language model's
    attention; in a SigLIP tower the first three occur too, its `out_proj`, `fc1` and `fc2` do not, so that half of
    each layer trains by accident. Judged where targets name no part and `intent` is silent on it.

    Remedy: leave the part out, or say that it is meant: `intent: {vision: train}`.

    Source: measured on google/gemma-3-4b-it: 81 of 162 layers; see the coverage tests
    """
    from vlcheck.model.target_fixes import leaving_out

    if lora.target_modules is None or lora.target_modules == "all-linear" or lora.layers_to_transform is not None:
        raise NotApplicable("no names decide which layers of a part are adapted")
    entries = [lora.target_modules] if isinstance(lora.target_modules, str) else lora.target_modules
    excluded = [lora.exclude_modules] if isinstance(lora.exclude_modules, str) else lora.exclude_modules or ()
    written = " ".join((*entries, *excluded))
    parts = [
        p for p in (Part.VISION, Part.PROJECTOR) if p in modules.parts() and getattr(spec.intent, p.intent) is None
    ]
    yield Examined(sum(len(_layers(modules, part)) for part in parts), "linear layers in layer lists")
    for part in parts:
        layers = _layers(modules, part)
        adapted = [row for row in layers if row.adapted or row.adapter_parameters]
        names = {component for row in layers for component in row.name.split(".")[:3] if component != "model"}
        if 0 < len(adapted) < len(layers) and not any(name in written for name in names):
            missed = {row.name.rpartition(".")[2] for row in layers} - {row.name.rpartition(".")[2] for row in adapted}
            out = leaving_out(lora, targets, [row.name for row in modules.where(part=part)])
            yield Finding(
                f"{part.value}: {len(adapted)} of {len(layers)} linear layers are adapted and "
                f"{', '.join(sorted(missed))} are not; neither the targets nor intent name this part",
                where=spec.where("lora.target_modules"),
                measured=_census(modules),
                fix="; or ".join(filter(None, (out, f"intent: {{{part.intent}: train}}"))),
            )


def _layers(modules: ModuleTable, part: Part) -> list[ModuleRow]:
    """Linear layers that stand in a list of layers, where each kind occurs once a layer."""
    rows = (row for row in modules.where(part=part) if "Linear" in row.kind and row.parameters)
    return [row for row in rows if any(component.isdigit() for component in row.name.split("."))]


def trained_by(part: Part, spec: RunSpec, modules: ModuleTable, reference: nn.Module, family: Family) -> str:
    """Settings that train a part, beside every other one that is fed by the data and not meant to be frozen."""
    from vlcheck.model.target_fixes import training

    wanted = [
        other
        for other in modules.parts()
        if other is part
        or not (
            getattr(spec.intent, other.intent) == "freeze"
            or is_idle(spec, other)
            or (other is Part.ROUTER and spec.intent.router != "train")
        )
    ]
    return training(reference, spec, family, wanted, part)


def is_idle(spec: RunSpec, part: Part) -> bool:
    """Whether no sample of the run's data enters a part."""
    return part in FED_BY and not FED_BY[part] & set(spec.data.modalities)


def _meant_but_missing(
    spec: RunSpec, modules: ModuleTable, part: Part, reference: nn.Module, family: Family
) -> Iterator[Finding | Examined]:
    if part not in modules.parts():
        raise NotApplicable(f"the model has no {part.value}")
    if getattr(spec.intent, part.intent) != "train":
        raise NotApplicable(f"intent.{part.intent} is not train")
    yield _trained(modules)
    if not modules.trained(part):
        yield Finding(
            f"{part.value} is meant to be trained, but "
            f"{'carries no trainable adapter' if spec.lora else 'is frozen'}: {_all_in(modules)}"
            f"{_by_framework(spec, part)}",
            where=_decided(spec),
            measured=_census(modules),
            fix=trained_by(part, spec, modules, reference, family),
        )


def _by_framework(spec: RunSpec, part: Part) -> str:
    """What the run's framework has to do with a part that is not trained."""
    from vlcheck.model.aim import withheld

    reason = withheld(spec, part)
    return reason and f"; {reason}"


def _decided(spec: RunSpec) -> Location:
    """Where the config decides which parts are trained."""
    return spec.where("lora.target_modules" if spec.lora else "training.freeze")


def _trained(modules: ModuleTable) -> Examined:
    adapters = len(modules.adapters())
    whole = sum(row.saved for row in modules.rows)
    return Examined(adapters, "adapters") if adapters or not whole else Examined(whole, "modules trained in full")


def _all_in(modules: ModuleTable) -> str:
    """One phrase: where the adapters are."""
    return ", ".join(f"{part.value} {modules.trained(part)}" for part in modules.parts()) + " trained modules"


def _census(modules: ModuleTable) -> dict[str, Json]:
    census = modules.census()
    if not any(numbers["adapted"] for numbers in census.values()) and any(row.saved for row in modules.rows):
        return {part: f"{numbers['saved']} modules trained in full" for part, numbers in census.items()}
    return {
        part: _share(numbers["adapted"], numbers["linears"])
        + (f", {numbers['saved']} modules saved" if numbers["saved"] else "")
        for part, numbers in census.items()
    }


def _share(adapted: int, linears: int) -> str:
    """Fused experts are adapted as bare parameters: there, linear layers are no measure."""
    if adapted > linears:
        return f"{adapted} modules adapted" + (f", {linears} linear layers" if linears else ", by their parameters")
    return f"{adapted} of {linears} linear layers adapted" if linears else "no linear layer"
