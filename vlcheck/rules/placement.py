"""VLC1xx: where LoRA sits relative to Gemma 4's clip wrappers, and whether PEFT takes the targets at all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, NotApplicable, Severity, rule
from vlcheck.model.family import CLIP_BOUNDS, Family, Part
from vlcheck.rules.coverage import is_idle

if TYPE_CHECKING:
    from torch import nn

    from vlcheck.evidence.clip import Wrappers
    from vlcheck.evidence.model import Skeleton
    from vlcheck.model.clip_behaviour import Containment
    from vlcheck.model.clip_bounds import StoredBounds
    from vlcheck.model.targets import Targets
    from vlcheck.spec import Lora, RunSpec


@rule("VLC101", "wrapper-targeted", Severity.ERROR)
def wrapper_targeted(
    spec: RunSpec, lora: Lora, reference: nn.Module, targets: Targets, family: Family, skeleton: Skeleton
) -> Iterator[Finding | Examined]:
    """The targets name a clip wrapper itself, so PEFT refuses and the run never starts.

    `Gemma4ClippableLinear` is no linear layer: it clamps, calls its inner `.linear`, and clamps
    again. PEFT adapts linear layers only and raises ValueError, whether the checkpoint clips or not.
    A name list hits the wrapper because lists match by suffix, and `exclude_modules` as a list does
    not help for the same reason: `vision_tower` excludes the tower, none of its children.

    Remedy: target the inner `.linear` in the towers and plain names in the language model, with the
    regex that the finding shows, or `all-linear`. Both put LoRA between the clamps.

    Source: https://github.com/huggingface/peft/issues/3129
    """
    from vlcheck.model.target_fixes import working_regex
    from vlcheck.model.targets import adapted_by

    if family.clip_wrapper is None:
        raise NotApplicable(f"{family.name} has no clip wrappers")
    yield Examined(len(targets.modules), "targeted modules")
    if targets.wrappers and skeleton.refused(family.clip_wrapper):
        parts = [part for part in Part if getattr(spec.intent, part.intent) != "freeze" and not is_idle(spec, part)]
        regex = working_regex(
            reference, targets, family, parts, [p for p in parts if getattr(spec.intent, p.intent) == "train"]
        )
        yield Finding(
            f"{len(targets.wrappers)} of {len(targets.modules)} targeted modules are {family.clip_wrapper}, which PEFT "
            f"refuses; first: {targets.wrappers[0]}",
            where=spec.where("lora.target_modules"),
            measured={
                "wrappers targeted": len(targets.wrappers),
                "modules targeted": len(targets.modules),
                "modules adapted by the fix": len(adapted_by(reference, lora, regex)),
            },
            fix=f"target_modules: '{regex}'",
        )


@rule("VLC103", "clip-around", Severity.ERROR, explains=("VLC105",))
def clip_around(spec: RunSpec, containment: Containment) -> Iterator[Finding | Examined]:
    """The LoRA delta is added outside the clamps of a clip wrapper.

    Gemma 4 E2B and E4B clamp the input and output of every vision and audio projection. A delta that
    is added after the output clamp is unbounded, and merging the adapter moves it inside: training
    and the merged model then compute different functions. It happens when a patch makes PEFT take the
    wrapper itself for a linear layer. Where vlcheck could, it called the wrapper with every bound at
    +-0.05 and a large random delta.

    Remedy: drop the patch and target the inner `.linear`: `target_modules: all-linear`.

    Source: https://github.com/huggingface/transformers/pull/45388
    """
    what = "the LoRA delta is added outside the clamps"
    yield from _misplaced(spec, containment, "around", what)


@rule("VLC104", "clip-replaced", Severity.ERROR)
def clip_replaced(spec: RunSpec, containment: Containment) -> Iterator[Finding | Examined]:
    """A clip wrapper was replaced by a module that does not clamp.

    Unwrapping `Gemma4ClippableLinear` is a widespread trick to make PEFT accept plain names. On a
    checkpoint that clips (E2B, E4B) it changes the model before the first step: neither base nor
    delta is bounded any more. On 31B and 26B-A4B there is nothing to lose, and this rule is silent.

    Remedy: keep the wrappers and target their inner `.linear`: `target_modules: all-linear`.

    Source: https://github.com/AI-Hypercomputer/maxtext/pull/4790 (a port of E2B that agrees with
    transformers only with the clamps, by report; not shown by runs of ours) and https://github.com/huggingface/peft/issues/3129
    """
    what = "the wrapper was replaced and nothing clamps any more"
    yield from _misplaced(spec, containment, "replaced", what)


@rule("VLC105", "merge-differs", Severity.ERROR)
def merge_differs(spec: RunSpec, containment: Containment) -> Iterator[Finding | Examined]:
    """Merging the adapter changes what the model computes.

    A merged adapter is part of the weight and therefore inside the clamps. If the unmerged delta sits
    elsewhere, the model that was trained and evaluated is not the model that is deployed. Measured by
    calling each wrapper of a small copy of the run before and after `merge()`.

    Remedy: put the adapter on the inner `.linear` (see VLC103).

    Source: measured; see the containment tests.
    """
    measured = [wrapper for wrapper in containment.measured() if wrapper.adapted]
    if not measured:
        raise NotApplicable(containment.unmeasured or "no clip wrapper carries an adapter")
    yield Examined(len(measured), "adapted clip wrappers compared merged and unmerged")
    differing = [w for w in measured if w.behaviour and not w.behaviour.merges]
    if differing and (worst := max((w.behaviour for w in differing if w.behaviour), key=lambda b: b.merge_gap)):
        yield Finding(
            f"{differing[0].name}: merged and unmerged outputs differ"
            + (f"; merging fails: {worst.merge_error}" if worst.merge_error else ""),
            where=spec.where("lora.target_modules"),
            measured={
                "wrappers": len(differing),
                "of": len(measured),
                "largest output unmerged": worst.largest,
                "largest output merged": worst.largest_merged,
            },
            fix=_unpatched(spec),
        )


@rule("VLC106", "clip-inactive", Severity.NOTE)
def clip_inactive(spec: RunSpec, lora: Lora, wrappers: Wrappers, family: Family) -> Iterator[Finding | Examined]:
    """Clipping is inactive for this checkpoint.

    The wrappers are built for every Gemma 4 checkpoint with a tower, but hold bounds only where
    `use_clipped_linears` is true (E2B and E4B). Without bounds a wrapper equals its inner linear, bit
    for bit: nothing can be bypassed, and replacing it harms nothing. Advice about protecting the clip
    does not apply to 31B and 26B-A4B.

    Remedy: none needed.

    Source: https://huggingface.co/rnagabh/gemma4-vision-encoder/blob/main/config.json
    """
    yield Examined(len(wrappers.all), "clip wrappers")
    if not wrappers.clipping:
        yield Finding(
            f"none of the {len(wrappers.all)} {family.clip_wrapper} modules holds bounds: there is no clip to bypass",
            where=spec.where("model.id"),
            measured={"wrappers": len(wrappers.all), "with bounds": 0},
        )


@rule("VLC107", "clip-bounds", Severity.ERROR)
def clip_bounds(spec: RunSpec, bounds: StoredBounds) -> Iterator[Finding | Examined]:
    """The checkpoint's clip bounds are missing, not finite, or reversed.

    A clipping checkpoint stores four scalars a wrapper. Where a conversion lost them the wrapper
    starts with infinite bounds: it loads without a warning and clamps nothing. Judged from the
    bound values themselves, read out of local safetensors.

    Remedy: take the checkpoint from its publisher, or convert it again with its buffers.

    Source: https://github.com/vllm-project/tpu-inference/pull/3355
    """
    yield Examined(sum(map(len, bounds.values.values())), "clip bounds")
    missing = [f"{n}.{bound}" for n, values in bounds.values.items() for bound in CLIP_BOUNDS if bound not in values]
    unbounded = [f"{n}.{b}" for n, values in bounds.values.items() for b, v in values.items() if not math.isfinite(v)]
    reversed_ = [
        f"{n}.{side}"
        for n, values in bounds.values.items()
        for side in ("input", "output")
        if values.get(f"{side}_min", -math.inf) > values.get(f"{side}_max", math.inf)
    ]
    for faulty, fault in ((missing, "missing"), (unbounded, "not finite"), (reversed_, "reversed (min > max)")):
        if faulty:
            yield Finding(
                f"{len(faulty)} clip bounds are {fault}; first: {faulty[0]}",
                where=spec.where("model.id"),
                measured={fault: len(faulty), "expected bounds": len(bounds.values) * len(CLIP_BOUNDS)},
                fix="use a checkpoint that stores its clip bounds",
            )


@rule("VLC111", "clip-contradiction", Severity.WARNING)
def clip_contradiction(spec: RunSpec, containment: Containment) -> Iterator[Finding | Examined]:
    """A clip wrapper does not behave as its structure says.

    vlcheck reads where an adapter sits and also measures whether its output is bounded. The two
    disagree when a custom layer or a patched forward does something that its place in the module tree
    does not show. Other rules follow the measurement.

    Remedy: read the patch; the measured behaviour is what trains.

    Source: https://github.com/Roblox/FAI-RL/pull/104 (a wrapper that looks outside and clamps inside)
    """
    measured = containment.measured()
    if not measured:
        raise NotApplicable(containment.unmeasured or "no clip wrapper was called")
    yield Examined(containment.called, "clip wrappers called")
    odd = [wrapper for wrapper in measured if not wrapper.consistent]
    if odd:
        first = odd[0]
        built = first.structure.value if first.structure else "intact"
        acts = first.placement.value if first.placement else "intact"
        yield Finding(
            f"{first.name}: built as {built}, behaves as {acts}"
            + ("" if first.behaviour and first.behaviour.inputs_clamped else "; its inputs are not clamped"),
            where=spec.where("model.patch"),
            measured={"wrappers": len(odd), "of": len(measured)},
        )


def _misplaced(spec: RunSpec, containment: Containment, placement: str, what: str) -> Iterator[Finding | Examined]:
    yield Examined(len(containment.wrappers), "clip wrappers")
    yield Examined(containment.called, "of them called with a large delta")
    found = [w for w in containment.wrappers if w.placement is not None and w.placement.value == placement]
    if found:
        shown = next((w.behaviour for w in found if w.behaviour), None)
        measured = {"wrappers": len(found), "of": len(containment.wrappers)}
        if shown:
            measured |= {"largest output": shown.largest, "bound": 0.05}  # type: ignore[dict-item]
        unmeasured = f"; by structure alone, {containment.unmeasured}" if not shown and containment.unmeasured else ""
        yield Finding(
            f"{found[0].name}: {what}{unmeasured}",
            where=spec.where("lora.target_modules"),
            measured=measured,
            fix=_unpatched(spec),
        )


def _unpatched(spec: RunSpec) -> str:
    return "target_modules: all-linear" + (", remove patch" if spec.model.patch else ", on the model without its patch")
