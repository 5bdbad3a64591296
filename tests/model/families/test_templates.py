"""The templates that ship with vlcheck write what the official ones write."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import strategies
from tests.model.families.settings import SHARED, setting
from vlcheck.data.conversation import Turn, as_messages
from vlcheck.processing.fallback import read_template

MARKERS = ("<|turn>user\n", "<turn|>", "<|image>", "<start_of_turn>", "<end_of_turn>", "<bos>")


@pytest.mark.parametrize(("ours", "official", "name"), [
    ("gemma4-large.jinja", "gemma-4-large.2026-05.jinja", "google/gemma-4-26B-A4B-it"),
    ("gemma4-small.jinja", "gemma-4-small.2026-05.jinja", "google/gemma-4-E2B-it"),
    ("gemma3.jinja", "gemma-3-it.jinja", "google/gemma-3-4b-it"),
])  # fmt: skip
def test_our_template_writes_what_the_official_one_does(ours, official, name):
    """Any conversation without tools, asked or answered, with and without thinking."""
    if not SHARED.is_dir():
        pytest.skip("../shared/data is not here")
    texts = [read_template(ours), (SHARED / "chat-templates" / official).read_text()]
    processor = setting(name).processor

    @settings(max_examples=150, database=None)
    @given(strategies.conversations(MARKERS), st.integers(1, 7), st.booleans())
    def check(conversation, turns, thinking):
        kept = conversation.turns[:turns]
        asked = kept[-1].role != "assistant"
        mine, theirs = (
            processor.apply_chat_template(
                as_messages(kept), chat_template=text, add_generation_prompt=asked, enable_thinking=thinking
            )
            for text in texts
        )
        assert mine == theirs

    check()


@pytest.mark.parametrize(("name", "written"), [
    ("google/gemma-3-4b-it",
     "<bos><start_of_turn>user\nBe brief.\n\n<start_of_image>Breed?<end_of_turn>\n<start_of_turn>model\n"),
    ("Qwen/Qwen2.5-VL-3B-Instruct",
     "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Breed?"
     "<|im_end|>\n<|im_start|>assistant\n"),
    ("Qwen/Qwen3-VL-2B-Instruct",
     "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Breed?"
     "<|im_end|>\n<|im_start|>assistant\n"),
    ("HuggingFaceTB/SmolVLM2-256M-Video-Instruct",
     "<|im_start|>System: Be brief.<end_of_utterance>\nUser:<image>Breed?<end_of_utterance>\nAssistant:"),
    ("HuggingFaceM4/Idefics3-8B-Llama3",
     "<|begin_of_text|>System: Be brief.<end_of_utterance>\nUser:<image>Breed?<end_of_utterance>\nAssistant:"),
    ("llava-hf/llava-1.5-7b-hf", "Be brief. USER: <image>\nBreed? ASSISTANT:"),
    ("llava-hf/llava-v1.6-mistral-7b-hf", "<<SYS>>\nBe brief.\n<</SYS>>\n\n[INST] <image>\nBreed? [/INST]"),
    ("llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
     "<|im_start|>system \nBe brief.<|im_end|><|im_start|>user <image>\nBreed?<|im_end|><|im_start|>assistant\n"),
    ("OpenGVLab/InternVL3-1B-hf",
     "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n<IMG_CONTEXT>\nBreed?<|im_end|>\n"
     "<|im_start|>assistant\n"),
    ("mistral-community/pixtral-12b", "<s>[INST]Be brief.\n\n[IMG]Breed?[/INST]"),
    ("mistralai/Mistral-Small-3.1-24B-Instruct-2503",
     "<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST][IMG]Breed?[/INST]"),
])  # fmt: skip
def test_what_a_question_about_an_image_looks_like(name, written):
    """A system turn, an image, a question, whole."""
    given_setting = setting(name)
    turns = (Turn("system", ("Be brief.",)), Turn("user", (strategies.picture(8, 8), "Breed?")))

    assert given_setting.collate().template.render(turns, prompt=True) == written
