"""Gemma 4 with towers: E2B, E4B, 26B-A4B, 31B.

Read from transformers 5.23, `models/gemma4`. `Gemma4ClippableLinear` wraps every linear layer of the
vision and audio encoders whether the checkpoint clips or not; `use_clipped_linears` decides, per
tower, whether it holds bounds (E2B and E4B: yes; 26B-A4B and 31B: no).
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vlcheck.model.families import images
from vlcheck.model.family import Dialogue, FallbackProcessor, Family, ImageLayout, Part, Values

if TYPE_CHECKING:
    import torch

TEXT_LAYERS = "model.language_model.layers"
VISION_LAYERS = "model.vision_tower.encoder.layers"
AUDIO_LAYERS = "model.audio_tower.layers"
SPECIAL_IDS = ("image_token_id", "audio_token_id", "video_token_id", "boi_token_id", "eoi_token_id", "boa_token_id",
               "eoa_token_id", "eoa_token_index")  # fmt: skip


def layer_kinds(values: Values) -> Mapping[str, Sequence[Hashable]]:
    """Text layers differ by attention type and by whether they share another layer's keys and values."""
    text, audio = values["text_config"], values.get("audio_config")
    own = _layers_with_own_cache(text)
    kinds: dict[str, Sequence[Hashable]] = {
        TEXT_LAYERS: [(kind, index >= own) for index, kind in enumerate(text["layer_types"])],
        VISION_LAYERS: ["encoder"] * values["vision_config"]["num_hidden_layers"],
    }
    if audio:
        kinds[AUDIO_LAYERS] = ["conformer"] * audio["num_hidden_layers"]
    return kinds


def shrink(values: Values, layers: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Narrow every width and keep the chosen layers; `per_layer_config` is derived again from the rest.

    The reduced model keeps what decides structure and gradient flow: attention types, shared keys and
    values, per-layer inputs, experts, clipping, the pooling that turns 9 patches into one soft token.
    """
    tiny = copy.deepcopy(dict(values))
    text, vision, audio = tiny["text_config"], tiny["vision_config"], tiny.get("audio_config")
    chosen = layers[TEXT_LAYERS]
    own = _layers_with_own_cache(text)
    text.pop("per_layer_config", None)
    text.update(
        layer_types=[text["layer_types"][index] for index in chosen],
        num_hidden_layers=len(chosen),
        num_kv_shared_layers=sum(index >= own for index in chosen),
        hidden_size=64, intermediate_size=64, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        global_head_dim=32, num_global_key_value_heads=1 if text.get("attention_k_eq_v") else None,
        vocab_size=64, vocab_size_per_layer_input=64, sliding_window=32, pad_token_id=0, bos_token_id=2, eos_token_id=1,
    )  # fmt: skip
    if text.get("hidden_size_per_layer_input"):
        text["hidden_size_per_layer_input"] = 8
    if text.get("enable_moe_block"):
        text.update(num_experts=4, top_k_experts=2, moe_intermediate_size=16)
    vision.update(
        hidden_size=64, intermediate_size=64, num_hidden_layers=len(layers[VISION_LAYERS]), num_attention_heads=4,
        num_key_value_heads=4, head_dim=16, global_head_dim=16, patch_size=4, position_embedding_size=16,
    )  # fmt: skip
    if audio:
        audio.update(
            hidden_size=32, num_hidden_layers=len(layers[AUDIO_LAYERS]), num_attention_heads=2, output_proj_dims=32,
            subsampling_conv_channels=[8, 4],
        )  # fmt: skip
    tiny.update({key: 40 + offset for offset, key in enumerate(SPECIAL_IDS)}, eos_token_id=1)
    return tiny


def sample_row(values: Values, modalities: frozenset[str]) -> dict[str, torch.Tensor]:
    """A short turn; an image has 6 x 6 patches, that is 4 soft tokens, a sound 16 frames, also 4."""
    import torch

    image, audio = values["image_token_id"], values["audio_token_id"]
    heard = "audio" in modalities and values.get("audio_config")
    ids = torch.tensor(
        [
            [2, 5, 6]
            + [values["boi_token_id"], *[image] * 4, values["eoi_token_id"]] * ("image" in modalities)
            + [values["boa_token_id"], *[audio] * 4, values["eoa_token_id"]] * bool(heard)
            + [7, 8, 9, 10, 11]
        ]
    )
    row = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == image).long() + 3 * (ids == audio),
        "labels": ids.where((ids != image) & (ids != audio), -100),
    }
    if "image" in modalities:
        side = torch.arange(6)
        row["pixel_values"] = torch.rand(1, 36, 3 * values["vision_config"]["patch_size"] ** 2)
        row["image_position_ids"] = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).reshape(1, -1, 2)
    if heard:
        row["input_features"] = torch.rand(1, 16, values["audio_config"]["subsampling_conv_channels"][0])
        row["input_features_mask"] = torch.ones(1, 16, dtype=torch.bool)
    return row


def image_layout(values: Values, soft_tokens: int, device: torch.device) -> ImageLayout:
    """Patches of one image, padded to the budget; three by three of them make a soft token."""
    import torch

    vision, soft = values["vision_config"], images.placeholder(values)
    pool, (high, wide) = vision["pooling_kernel_size"], images.rectangle(soft_tokens)
    grid = torch.meshgrid(torch.arange(pool * wide), torch.arange(pool * high), indexing="xy")
    return ImageLayout(
        ids=(values["boi_token_id"], *[soft] * soft_tokens, values["eoi_token_id"]),
        soft=soft,
        tensors={
            "pixel_values": torch.ones(1, pool**2 * soft_tokens, 3 * vision["patch_size"] ** 2, device=device),
            "image_position_ids": torch.stack(grid, -1).reshape(1, -1, 2),
        },
        types="mm_token_type_ids",
    )


def soft_tokens(values: Values, wanted: int | None) -> tuple[int, str]:
    """A run's budget, or the processor's; every image is padded to it."""
    default = int(values.get("vision_soft_tokens_per_image") or 280)
    return wanted or default, "" if wanted else f"the processor's default of {default} soft tokens an image"


def image_options(values: Values) -> dict[str, Any]:
    """Pixels along a side of a patch, and patches along a side of what becomes one soft token."""
    return {key: values["vision_config"][key] for key in ("patch_size", "pooling_kernel_size")}


def budget(processor: Any, soft_tokens: int) -> None:
    """Cap an image's soft tokens.

    Raises:
        ValueError: if the family's image processor knows no such cap.
    """
    if soft_tokens not in SOFT_TOKENS:
        raise ValueError(f"{soft_tokens} seen; allowed: {', '.join(map(str, SOFT_TOKENS))}")
    processor.image_processor.max_soft_tokens = soft_tokens


def template(values: Values) -> str:
    """E2B and E4B, the ones that clip, have the template whose generation prompt opens no thought."""
    return "gemma4-small.jinja" if values["vision_config"].get("use_clipped_linears") else "gemma4-large.jinja"


def explodes(values: Values) -> bool:
    """Reported for the 31B, the only dense model of this depth."""
    text = values["text_config"]
    return bool(text["num_hidden_layers"] == 60 and not text.get("enable_moe_block"))


def _layers_with_own_cache(text: Values) -> int:
    """Layers before the first that reuses another's keys and values."""
    return int(text["num_hidden_layers"]) - int(text.get("num_kv_shared_layers") or 0)


SOFT_TOKENS = (70, 140, 280, 560, 1120)
"""What `Gemma4ImageProcessor` takes for `max_soft_tokens` (transformers 5.23)."""

DIALOGUE = Dialogue(
    end="<turn|>",
    batch_keys=("mm_token_type_ids", "pixel_values", "image_position_ids"),
    image_tokens=("<|image|>", "<|image>", "<image|>"),
    thought=("<|channel>thought\n", "\n<channel|>"),
    budget=budget,
)

FALLBACK = FallbackProcessor(
    processor="Gemma4Processor",
    image_processor="Gemma4ImageProcessorPil",
    tokens={
        "<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<|think|>": 98, "<|channel>": 100, "<channel|>": 101,
        "<|turn>": 105, "<turn|>": 106, "<|image>": 255999, "<|audio>": 256000, "<|image|>": 258880,
        "<|audio|>": 258881, "<image|>": 258882, "<audio|>": 258883, "<|video|>": 258884,
    },
    roles={
        "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>",
        "image_token": "<|image|>", "boi_token": "<|image>", "eoi_token": "<image|>", "audio_token": "<|audio|>",
        "boa_token": "<|audio>", "eoa_token": "<audio|>",
    },
    template=template,
    byte_level=False,
    image_options=image_options,
)  # fmt: skip
"""Ids as in the tokenizer.json of google/gemma-4-E2B-it to 31B-it (sha256 cc8d3a0c...)."""

FAMILY = Family(
    name="Gemma 4",
    model_types=("gemma4",),
    parts={
        "model.vision_tower": Part.VISION,
        "model.embed_vision": Part.PROJECTOR,
        "model.audio_tower": Part.AUDIO,
        "model.embed_audio": Part.AUDIO,
        "model.language_model": Part.LANGUAGE,
        "lm_head": Part.LANGUAGE,
    },
    part_classes={"Gemma4TextRouter": Part.ROUTER, "Gemma4TextExperts": Part.EXPERTS},
    clip_wrapper="Gemma4ClippableLinear",
    overflows_in_fp16="vision tower of 26B-A4B and 31B, transformers 5.5 to 5.9 (transformers#46277)",
    explodes=explodes,
    layer_kinds=layer_kinds,
    shrink=shrink,
    sample_row=sample_row,
    dialogue=DIALOGUE,
    fallback=FALLBACK,
    image_layout=image_layout,
    soft_tokens=soft_tokens,
    most_soft_tokens=SOFT_TOKENS[-1],
    measured=True,
)
