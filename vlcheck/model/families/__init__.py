"""Every model family that vlcheck knows: one record a file, in one tuple."""

from __future__ import annotations

from vlcheck.model.families import (
    gemma3,
    gemma3n,
    gemma4,
    gemma4_unified,
    glm4v,
    idefics3,
    internvl,
    llava,
    llava_next,
    llava_onevision,
    mistral3,
    mllama,
    paligemma,
    pixtral,
    qwen2_5_vl,
    qwen2_vl,
    qwen3_vl,
    qwen3_vl_moe,
    smolvlm,
)
from vlcheck.model.family import Family, Values

FAMILIES: tuple[Family, ...] = (
    gemma4.FAMILY,
    gemma4_unified.FAMILY,
    gemma3.FAMILY,
    gemma3n.FAMILY,
    qwen2_5_vl.FAMILY,
    qwen2_vl.FAMILY,
    qwen3_vl.FAMILY,
    qwen3_vl_moe.FAMILY,
    smolvlm.FAMILY,
    idefics3.SMOLVLM,
    idefics3.FAMILY,
    pixtral.FAMILY,
    llava.FAMILY,
    llava_next.OTHER_VOCABULARIES,
    llava_next.FAMILY,
    llava_onevision.FAMILY,
    paligemma.FAMILY,
    internvl.INTERNVL_3_5,
    internvl.FAMILY,
    mllama.FAMILY,
    mistral3.FAMILY,
    glm4v.FAMILY,
    glm4v.MIXTURE,
)


def described() -> tuple[str, ...]:
    """Model types whose processors are described, so that a batch of theirs can be made up."""
    return tuple(dict.fromkeys(kind for family in FAMILIES if family.image_layout for kind in family.model_types))


def family_of(values: Values) -> Family:
    """The family of a model config.

    Raises:
        LookupError: for an unknown `model_type`; the message lists the known ones.
    """
    for family in FAMILIES:
        if values.get("model_type") in family.model_types and family.applies(values):
            return family
    known = ", ".join(dict.fromkeys(kind for family in FAMILIES for kind in family.model_types))
    raise LookupError(f"model_type {values.get('model_type')!r} is of no family that vlcheck knows; known: {known}")
