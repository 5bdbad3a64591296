"""Every model family that vlcheck knows: one record a file, in one tuple."""

from __future__ import annotations

from vlcheck.families import gemma3, gemma4
from vlcheck.family import Family, Values

FAMILIES: tuple[Family, ...] = (gemma4.FAMILY, gemma3.FAMILY)


def family_of(values: Values) -> Family:
    """The family of a model config.

    Raises:
        LookupError: for an unknown `model_type`; the message lists the known ones.
    """
    for family in FAMILIES:
        if values.get("model_type") in family.model_types:
            return family
    known = ", ".join(kind for family in FAMILIES for kind in family.model_types)
    raise LookupError(f"model_type {values.get('model_type')!r} is of no family that vlcheck knows; known: {known}")
