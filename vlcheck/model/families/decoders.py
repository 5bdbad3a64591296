"""The language models that several families hold: their layer kinds, and their shrunken configs."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from typing import Any

from vlcheck.finding import Unavailable
from vlcheck.model.family import Values

KNOWN = {"gemma", "gemma2", "llama", "mistral", "mllama_text_model", "qwen2", "qwen3", "qwen2_vl_text",
         "qwen2_5_vl_text", "qwen3_vl_text", "qwen3_vl_moe_text"}  # fmt: skip
"""Model types that shrink by the keys below."""

HIDDEN = 64
HALF_HEAD = 8


def kinds(text: Values) -> Sequence[Hashable]:
    """Layers differ by attention type where the config lists types; else all are alike."""
    return text.get("layer_types") or ["decoder"] * text["num_hidden_layers"]


def shrunk(text: Values, chosen: Sequence[int]) -> dict[str, Any]:
    """The config of the chosen layers, every width narrowed.

    Raises:
        Unavailable: for a language model that may need more than these keys.
    """
    if text["model_type"] not in KNOWN:
        raise Unavailable(f"vlcheck knows no miniature of a {text['model_type']} language model")
    tiny = copy.deepcopy(dict(text))
    tiny.update(
        num_hidden_layers=len(chosen), hidden_size=HIDDEN, intermediate_size=64, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=64, pad_token_id=0, bos_token_id=2, eos_token_id=1,
    )  # fmt: skip
    if tiny.get("head_dim"):
        tiny["head_dim"] = 2 * HALF_HEAD
    if tiny.get("layer_types"):
        tiny["layer_types"] = [text["layer_types"][index] for index in chosen]
    if tiny.get("sliding_window"):
        tiny["sliding_window"] = 32
    if "mrope_section" in (tiny.get("rope_parameters") or {}):
        tiny["rope_parameters"]["mrope_section"] = [HALF_HEAD // 2, HALF_HEAD // 4, HALF_HEAD // 4]
    return tiny
