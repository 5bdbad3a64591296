"""What tools say of frozen parts and of quantisation, each in keys of its own; the keys of bitsandbytes itself."""

from __future__ import annotations

from collections.abc import Mapping

from vlcheck.config.foreign.draft import Draft
from vlcheck.config.foreign.keys import Fate, same
from vlcheck.config.reading.quoting import quoted
from vlcheck.finding import Json

BITSANDBYTES: Mapping[str, Fate] = same(
    "quantization",
    "bnb_4bit_quant_type bnb_4bit_use_double_quant bnb_4bit_compute_dtype bnb_4bit_quant_storage "
    "llm_int8_skip_modules llm_int8_threshold",
)
"""Arguments of transformers' `BitsAndBytesConfig`, but for the number of bits."""


def settle_frozen(draft: Draft, switches: Mapping[str, str]) -> None:
    """The parts that get no adapter; tower (an audio tower too) and projector get none unless told otherwise.

    Args:
        switches: the key that freezes each part; `vision`, `projector` and `language`, in this order.
    """
    told = {part: key for part, key in switches.items() if draft.value(key) is not None}
    if told:
        frozen: list[Json] = [
            part for part in switches if (draft.on(told[part]) if part in told else part != "language")
        ]
        draft.put("training.freeze", frozen + ["audio"] * ("vision" in frozen), next(iter(told.values())))


def settle_whole(draft: Draft, key: str) -> None:
    """Every weight is trained: there is no adapter, and what the file says of one has no effect.

    Args:
        key: that says so; empty where none does.
    """
    draft.document.pop("lora", None)
    for path in [path for path in draft.sources if path.partition(".")[0] == "lora"]:
        draft.idle.append(draft.sources.pop(path))
    if key:
        draft.without_effect(key)


def settle_bits(draft: Draft, key: str, *, bnb: bool, method: str, place: str, fields: Mapping[str, str]) -> bool:
    """Quantisation by its number of bits; returns whether it is one that vlcheck knows, or says that it is not.

    Args:
        key: of the bits, which the file sets.
        bnb: whether bitsandbytes quantises.
        method: what does, in words.
        place: the key that stands for the whole.
        fields: key to field of bitsandbytes' settings of 4 bits, without `bnb_4bit_`.
    """
    bits = draft.value(key)
    if not bnb or str(bits) not in ("4", "8"):
        draft.doubt(place, "memory", message=f"{quoted(bits)} bits of {method}; vlcheck knows 4 and 8 of bnb")
        return False
    draft.sources["quantization"] = draft.place(place)
    draft.put(f"quantization.load_in_{bits}bit", True, key)
    for name, field in fields.items():
        if str(bits) == "4" and draft.value(name) is not None:
            draft.put(f"quantization.bnb_4bit_{field}", draft.value(name), name)
    return True
