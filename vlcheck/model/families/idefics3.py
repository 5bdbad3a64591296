"""Idefics 3 and the first SmolVLM, whose layout SmolVLM 2 keeps.

Read from transformers 5.23, `models/idefics3`. Its rows and columns of tiles are named in plain words: the
vocabulary of HuggingFaceM4/Idefics3-8B-Llama3 has 128,259 entries, of which three were added to Llama 3's.
"""

from __future__ import annotations

from dataclasses import replace

from vlcheck.model.families import smolvlm
from vlcheck.model.family import Dialogue, FallbackProcessor, Family

SMOLLM_2, LLAMA_3 = 49_152, 128_000
"""Entries of their vocabularies, before an image has any."""

DIALOGUE = Dialogue(
    end="<end_of_utterance>",
    batch_keys=smolvlm.DIALOGUE.batch_keys,
    image_tokens=("<image>", "<fake_token_around_image>"),
    budget=smolvlm.budget,
)

FALLBACK = FallbackProcessor(
    processor="Idefics3Processor",
    image_processor="Idefics3ImageProcessorPil",
    tokens={
        "<|begin_of_text|>": 128000, "<|end_of_text|>": 128001, "<|reserved_special_token_0|>": 128002,
        "<|start_header_id|>": 128006, "<|end_header_id|>": 128007, "<|eot_id|>": 128009,
        "<fake_token_around_image>": 128256, "<image>": 128257, "<end_of_utterance>": 128258,
    },
    roles={
        "bos_token": "<|begin_of_text|>", "eos_token": "<end_of_utterance>",
        "pad_token": "<|reserved_special_token_0|>",
    },
    template=lambda values: "idefics3.jinja",
    adds_bos=True,
    image_options=smolvlm.image_options,
    options=smolvlm.options,
)  # fmt: skip
"""The template is that of HuggingFaceM4/Idefics3-8B-Llama3, as trl 1.16 ships it too."""

FAMILY = Family(
    name="Idefics 3",
    model_types=("idefics3",),
    parts=smolvlm.FAMILY.parts,
    layer_kinds=smolvlm.layer_kinds,
    shrink=smolvlm.shrink,
    sample_row=smolvlm.sample_row,
    dialogue=DIALOGUE,
    fallback=FALLBACK,
    image_layout=smolvlm.image_layout,
    soft_tokens=smolvlm.soft_tokens,
    measured=True,
)

SMOLVLM = replace(
    FAMILY,
    name="SmolVLM",
    applies=lambda values: SMOLLM_2 <= (values.get("text_config") or {}).get("vocab_size", 0) < LLAMA_3,
    fallback=replace(
        FALLBACK,
        tokens={
            "<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2, "<fake_token_around_image>": 49152,
            "<image>": 49153, "<end_of_utterance>": 49154,
        },
        roles={"bos_token": "<|im_start|>", "eos_token": "<end_of_utterance>", "pad_token": "<|im_end|>"},
        template=lambda values: "smolvlm.jinja",
        adds_bos=False,
    ),
)  # fmt: skip
"""Idefics 3's layout around SmolLM 2: the first SmolVLM, whose configs have this model type. Its vocabulary is
SmolLM 2's, 49,152 entries, and three more."""
