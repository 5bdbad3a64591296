"""A limit on an image's pixels, as a number of soft tokens."""

from __future__ import annotations

from dataclasses import replace

from vlcheck.config.foreign.draft import Draft

_SIDES = {"qwen2-vl": 28, "qwen2.5-vl": 28, "qwen2_5-vl": 28, "qwen3-vl": 32}
"""Part of a model's name to the side in pixels of the square that one soft token covers; images of these keep their
size."""


def settle_pixels(draft: Draft, key: str, *, model: str, default: int | None = None, source: str = "") -> None:
    """Set `data.max_soft_tokens` to what the largest image gives that a tool hands to the processor.

    A model whose images all take one number of soft tokens, or that is not known here, has no such limit.

    Args:
        key: of the file, for the limit in pixels.
        model: key of the file that names the model.
        default: the limit where the file sets none; None for no limit.
        source: where the tool says so.
    """
    name = str(draft.value(model) or "").lower()
    side = next((side for part, side in _SIDES.items() if part in name), None)
    written = draft.value(key)
    pixels = written if isinstance(written, int) else default if written is None else None
    if pixels is None and written is not None:
        draft.refuse(key, f"{key} is {written!r}; allowed: an integer")
    elif side is None or pixels is None:
        if written is not None:
            draft.without_effect(key)
    else:
        draft.put("data.max_soft_tokens", max(1, pixels // side**2), key)
        if written is None:
            where = draft.sources["data.max_soft_tokens"]
            draft.sources["data.max_soft_tokens"] = replace(where, default=f"default of {draft.title}, {source}")
