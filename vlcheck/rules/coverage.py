"""VLC4xx: which parts of the model the run trains, against what it means to train."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, Json, NotApplicable, Severity, rule
from vlcheck.model.family import Part

if TYPE_CHECKING:
    from vlcheck.model.modules import ModuleTable
    from vlcheck.spec import RunSpec


@rule("VLC401", "language-not-adapted", Severity.ERROR)
def language_not_adapted(spec: RunSpec, modules: ModuleTable) -> Iterator[Finding | Examined]:
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
    yield _adapters(modules)
    if not modules.trained(Part.LANGUAGE) and not modules.trained(Part.EXPERTS):
        yield Finding(
            f"language model has no adapter: {_all_in(modules)}",
            where=spec.where("lora.target_modules"),
            measured=_census(modules),
            fix="target_modules: all-linear",
        )


@rule("VLC402", "vision-not-adapted", Severity.ERROR, explains=("VLC404",))
def vision_not_adapted(spec: RunSpec, modules: ModuleTable) -> Iterator[Finding | Examined]:
    """The run means to train the vision tower, and adapts nothing in it.

    PEFT's own default for Gemma 4 is a regex for the language model's q and v projections. A text
    recipe carried over leaves the tower as it was.

    Remedy: `target_modules: all-linear`, or add the tower to the regex. LoRA on `.linear` inside a clip
    wrapper is the sound place.

    Source: peft, utils/constants.py, TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    """
    yield from _meant_but_missing(spec, modules, Part.VISION, "target_modules: all-linear")


@rule("VLC403", "projector-not-adapted", Severity.ERROR, explains=("VLC404",))
def projector_not_adapted(spec: RunSpec, modules: ModuleTable) -> Iterator[Finding | Examined]:
    """The run means to train the projector, and adapts nothing in it.

    Gemma 4's projector is one linear layer, which `all-linear` adapts and name lists miss. Gemma 3's is
    a bare parameter, which LoRA cannot adapt: there only `modules_to_save` trains it.

    Remedy: as the finding says.

    Source: transformers, models/gemma3/modeling_gemma3.py, Gemma3MultiModalProjector
    """
    linear = any("Linear" in row.kind for row in modules.where(part=Part.PROJECTOR))
    fix = "target_modules: all-linear" if linear else "modules_to_save: [multi_modal_projector]"
    yield from _meant_but_missing(spec, modules, Part.PROJECTOR, fix)


@rule("VLC404", "frozen-part", Severity.NOTE)
def frozen_part(spec: RunSpec, modules: ModuleTable) -> Iterator[Finding | Examined]:
    """The vision tower or the projector is not trained, and nothing says whether that is meant.

    Training the language model alone is a common and sound choice, so this is a note. It gives the
    census: how many modules of each part carry an adapter.

    Remedy: say what you mean: `intent: {vision: train}` or `intent: {vision: freeze}`.

    Source: https://github.com/haotian-liu/LLaVA/issues/1703
    """
    yield _adapters(modules)
    for part in (Part.VISION, Part.PROJECTOR):
        if part in modules.parts() and not modules.trained(part) and getattr(spec.intent, part.intent) is None:
            yield Finding(
                f"{part.value} is not trained: {_all_in(modules)}",
                where=spec.where(f"intent.{part.intent}"),
                measured=_census(modules),
                fix=f"intent: {{{part.intent}: train}} or {{{part.intent}: freeze}}",
            )


@rule("VLC405", "adapted-against-intent", Severity.ERROR)
def adapted_against_intent(spec: RunSpec, modules: ModuleTable) -> Iterator[Finding | Examined]:
    """A part that the run means to freeze is trained.

    Suffix names such as `q_proj` occur in the vision tower too, and `all-linear` reaches every part.

    Remedy: exclude the part with a regex, for example `exclude_modules: '.*vision_tower.*'`.

    Source: https://github.com/haotian-liu/LLaVA/issues/1647
    """
    frozen = [part for part in modules.parts() if getattr(spec.intent, part.intent) == "freeze"]
    if not frozen:
        raise NotApplicable("intent freezes no part of this model")
    for part in frozen:
        yield Examined(sum(1 for _ in modules.where(part=part)), f"modules of the {part.value}")
        if trained := modules.trained(part):
            root = next(r.name for r in modules.rows if r.part is part and r.trainable).split(".")[:2]
            yield Finding(
                f"{part.value} is meant to be frozen, but {trained} of its modules are trained",
                where=spec.where("lora.target_modules"),
                measured=_census(modules),
                fix=rf"exclude_modules: '.*{root[-1]}.*'",
            )


@rule("VLC411", "declared-part-missing", Severity.ERROR)
def declared_part_missing(spec: RunSpec, modules: ModuleTable) -> Iterator[Finding | Examined]:
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
            yield Finding(
                f"{part.value}: meant to be trained, but {'carries no adapter' if has else 'this model has none'}",
                where=spec.where(f"intent.{part.intent}"),
                measured=_census(modules),
                fix="target_parameters" if part is Part.EXPERTS and has else "correct intent or target_modules",
            )


def _meant_but_missing(spec: RunSpec, modules: ModuleTable, part: Part, fix: str) -> Iterator[Finding | Examined]:
    if part not in modules.parts():
        raise NotApplicable(f"the model has no {part.value}")
    if getattr(spec.intent, part.intent) != "train":
        raise NotApplicable(f"intent.{part.intent} is not train")
    yield _adapters(modules)
    if not modules.trained(part):
        yield Finding(
            f"{part.value} is meant to be trained, but carries no trainable adapter: {_all_in(modules)}",
            where=spec.where("lora.target_modules"),
            measured=_census(modules),
            fix=fix,
        )


def _adapters(modules: ModuleTable) -> Examined:
    return Examined(len(modules.adapters()), "adapters")


def _all_in(modules: ModuleTable) -> str:
    """One phrase: where the adapters are."""
    return ", ".join(f"{part.value} {modules.trained(part)}" for part in modules.parts()) + " trained modules"


def _census(modules: ModuleTable) -> dict[str, Json]:
    return {
        part: f"{numbers['adapted']} of {numbers['linears']} linear layers adapted"
        + (f", {numbers['saved']} modules saved" if numbers["saved"] else "")
        for part, numbers in modules.census().items()
    }
