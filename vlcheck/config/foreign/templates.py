"""Whether a chat template that a tool calls by a name of its own is that of the model."""

from __future__ import annotations

from collections.abc import Mapping

from vlcheck.config.foreign.draft import Draft

_MODELS: Mapping[str, tuple[str, ...]] = {
    "gemma4": ("gemma-4",),
    "gemma4n": ("gemma-4-e",),
    "gemma4_unified": ("gemma-4-12b",),
    "gemma3": ("gemma-3-",),
    "gemma3n": ("gemma-3n",),
    "paligemma": ("paligemma",),
    "qwen2_vl": ("qwen2-vl", "qwen2.5-vl", "qwen2_5-vl"),
    "qwen2_5_vl": ("qwen2.5-vl",),
    "qwen3_vl": ("qwen3-vl",),
    "qwen3_vl_nothink": ("qwen3-vl",),
    "llava": ("llava-1.5",),
    "llava_next": ("llava-v1.6-vicuna",),
    "llava_next_mistral": ("llava-v1.6-mistral",),
    "llava_next_llama3": ("llama3-llava-next",),
    "llava_next_yi": ("llava-v1.6-34b",),
    "llava_next_qwen": ("llava-next-72b", "llava-next-110b"),
    "llama3_2_vision": ("llama-3.2-11b-vision", "llama-3.2-90b-vision"),
    "mllama": ("llama-3.2-11b-vision", "llama-3.2-90b-vision"),
    "pixtral": ("pixtral",),
    "mistral_small": ("mistral-small",),
    "mistral_v7_tekken": ("mistral-small",),
    "intern_vl": ("internvl",),
    "internvl3": ("internvl3",),
    "internvl3_5": ("internvl3_5",),
    "glm4v": ("glm-4.1v",),
    "glm4_1v": ("glm-4.1v",),
    "glm4_5v": ("glm-4.5v",),
    "smolvlm2": ("smolvlm2",),
    "idefics3": ("idefics3",),
}
"""Name of a template to parts of the names of the models whose own it restates: Axolotl's `utils/chat_templates`,
LLaMA-Factory's `data/template.py`, ms-swift's `template/constant.py`."""


_FALLBACK = "tokenizer_default_fallback_"
"""Before the template that Axolotl takes for a tokenizer without one, axolotl/utils/chat_templates/base.py:62-77."""


def settle_template(draft: Draft, key: str, model: str) -> None:
    """Pass over a template that restates the model's own, and tell so; keep any other as not understood.

    Args:
        model: key of the file that names the model.
    """
    name, of = draft.value(key), str(draft.value(model) or "").lower()
    if name is None or name == "tokenizer_default":
        return
    if str(name).startswith(_FALLBACK):
        draft.assumed.append(f"{key}: the model's own chat template counts, and it has one; {name} is for one without")
        draft.without_effect(key)
        return
    if any(part in of for part in _MODELS.get(str(name), ())):
        draft.assumed.append(f"{key}: {name} restates the model's own chat template; labels were judged with that one")
        draft.without_effect(key)
    else:
        draft.doubt(key, "labels")
