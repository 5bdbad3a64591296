"""LLaMA-Factory's config: a file becomes the run that LLaMA-Factory would train."""

from __future__ import annotations

import json

import pytest

from tests.config.foreign.texts import over
from vlcheck.config.load import load
from vlcheck.spec import ConfigError

BASIC = """\
model_name_or_path: Qwen/Qwen3-VL-4B-Instruct
stage: sft
finetuning_type: lora
dataset: demo
bf16: true
"""
MESSAGES = {
    "file_name": "demo.json",
    "formatting": "sharegpt",
    "columns": {"messages": "messages", "images": "images"},
    "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
}


@pytest.fixture
def read(tmp_path):
    """Read a config of these lines beside `data/dataset_info.json`, in which `demo` is described."""

    def read(text: str = "", demo: dict[str, object] | None = MESSAGES):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data/demo.json").write_text("[]")
        if demo is not None:
            (tmp_path / "data/dataset_info.json").write_text(json.dumps({"demo": demo}))
        path = tmp_path / "sft.yaml"
        path.write_text(over(BASIC, text))
        return load(path)

    return read


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("", "lora.r", 8),
        ("lora_rank: 32", "lora.lora_alpha", 64),
        ("", "lora.target_modules", "all-linear"),
        ("lora_target: all", "lora.target_modules", "all-linear"),
        ("lora_target: q_proj, v_proj", "lora.target_modules", ("q_proj", "v_proj")),
        ("additional_target: embed_tokens,lm_head", "lora.modules_to_save", ("embed_tokens", "lm_head")),
        ("", "training.freeze", ("vision", "projector", "audio")),
        ("freeze_vision_tower: false", "training.freeze", ("projector",)),
        ("freeze_multi_modal_projector: false", "training.freeze", ("vision", "audio")),
        ("freeze_vision_tower: false\nfreeze_multi_modal_projector: false", "training.freeze", ()),
        ("freeze_language_model: true", "training.freeze", ("vision", "projector", "language", "audio")),
        ("cutoff_len: 4096", "data.max_length", 4096),
        ("", "data.max_length", 2048),
        ("", "data.max_soft_tokens", 576),
        ("image_max_pixels: 262144", "data.max_soft_tokens", 256),
        ("model_name_or_path: google/gemma-3-4b-it", "data.max_soft_tokens", None),
        ("quantization_bit: 4", "quantization.bnb_4bit_use_double_quant", True),
        ("quantization_bit: 4\ndouble_quantization: false", "quantization.bnb_4bit_use_double_quant", False),
        ("quantization_bit: 8", "quantization.load_in_8bit", True),
        ("flash_attn: fa2", "model.attn_implementation", "flash_attention_2"),
        ("flash_attn: auto", "model.attn_implementation", None),
        ("disable_gradient_checkpointing: true", "training.gradient_checkpointing", False),
        ("use_reentrant_gc: false", "training.reentrant", False),
        ("", "training.reentrant", True),
        ("enable_liger_kernel: true", "training.logits", "fused"),
        ("warmup_ratio: 0.1", "training.warmup_steps", 0.1),
        ("max_samples: 1000", "data.train_samples", 1000),
        ("deepspeed: ds.json", "training.zero_optimization.stage", 3),
    ],
)
def test_what_a_key_means(read, tmp_path, text, path, value):
    (tmp_path / "ds.json").write_text('{"zero_optimization": {"stage": 3}, "bf16": {"enabled": "auto"}}')
    found = read(text)
    for field in path.split("."):
        found = getattr(found, field)
    assert found == value


def test_the_file_behind_a_name_is_found(read, tmp_path):
    """By `dataset_info.json` in `dataset_dir`, which is `data` unless told otherwise."""
    spec = read()

    assert spec.data.path == str(tmp_path / "data/demo.json")
    assert spec.where("data.path").line == 4
    assert spec.origin.unread == spec.origin.outdated == ()


@pytest.mark.parametrize(
    ("demo", "message"),
    [
        (None, "data/dataset_info.json is not here"),
        ({**MESSAGES, "formatting": "alpaca"}, "formatting is alpaca in dataset_info.json"),
        ({**MESSAGES, "columns": {"messages": "messages"}}, "columns of dataset_info.json names no images"),
        ({**MESSAGES, "columns": {"messages": "talk", "images": "images"}}, 'messages are read from "talk"'),
        ({**MESSAGES, "columns": {"messages": "messages", "images": "pictures"}}, 'images are read from "pictures"'),
        ({**MESSAGES, "tags": {}}, "tags of dataset_info.json names no role_tag"),
        ({**MESSAGES, "file_name": None, "script_url": "x"}, 'is "file_name" in dataset_info.json'),
    ],
)
def test_rows_that_its_reader_reads_otherwise_are_told(read, demo, message):
    (unread,) = read("", demo).origin.unread

    assert unread.message.removeprefix("dataset: ").startswith(message)
    assert unread.touches == ("data",)


def test_sets_of_texts_beside_one_with_images_are_named(tmp_path, read):
    """LLaMA-Factory's own examples mix them; their rows have no messages, and are no rows of the run here."""
    read("")
    info = {
        "demo": MESSAGES,
        "identity": {"file_name": "identity.json"},
        "lost": {**MESSAGES, "file_name": "lost.json"},
    }
    (tmp_path / "data/dataset_info.json").write_text(json.dumps(info))
    (tmp_path / "sft.yaml").write_text(over(BASIC, "dataset: demo, identity"))
    spec = load(tmp_path / "sft.yaml")
    (unread,) = spec.origin.unread

    assert unread.message.startswith("dataset: identity: formatting is alpaca in dataset_info.json, which reads")
    assert spec.data.more == ()
    (tmp_path / "sft.yaml").write_text(over(BASIC, "dataset: demo, lost"))
    with pytest.raises(ConfigError, match=str(tmp_path / "data/lost.json")):
        load(tmp_path / "sft.yaml")


@pytest.mark.parametrize(
    ("text", "touches"),
    [
        ("template: llava", ("labels",)),
        ("mask_history: true", ("labels",)),
        ("use_unsloth: true", ("memory",)),
        ("adapter_name_or_path: x", ("placement",)),
        ("deepspeed: gone.json", ("memory",)),
        ("quantization_bit: 4\nquantization_method: hqq", ("memory",)),
        ("lora_ranks: 8", ("memory", "labels", "placement", "data")),
    ],
)
def test_what_is_not_understood_is_kept(read, text, touches):
    (unread,) = read(text).origin.unread

    assert unread.touches == touches


def test_what_the_newest_transformers_lacks_is_judged_by_the_one_that_it_takes(read):
    """LLaMA-Factory 0.9.5 stops at a transformers above 5.6.0, which has `warmup_ratio` and no `no_cuda`."""
    assert read("warmup_ratio: 0.1\noverwrite_output_dir: true\nlogging_dir: x").origin.outdated == ()
    (gone,) = read("evaluation_strategy: steps\neval_dataset: demo").origin.outdated
    assert gone.message == "evaluation_strategy is no argument of transformers 5.6.0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("finetuning_type: freeze", 'finetuning_type is "freeze"; vlcheck judges runs of LoRA and full ones'),
        ("stage: dpo", 'stage is "dpo"; vlcheck judges supervised fine-tuning'),
        ("dataset: dem", 'dataset "dem" is not in '),
        ("dataset:", "dataset names nothing"),
        ("cutoff_len: long", 'cutoff_len is "long"; allowed: an integer'),
    ],
)
def test_what_cannot_be_a_run_is_one_line(read, text, message):
    with pytest.raises(ConfigError) as caught:
        read(text)
    (problem,) = caught.value.problems

    assert problem.message.startswith(message)


@pytest.mark.parametrize(
    ("text", "dtype", "frozen"),
    [
        ("", "float32", ("vision", "projector", "audio")),
        ("lora_rank: 4\nfreeze_vision_tower: false", "float32", ("projector",)),
        ("pure_bf16: true", "bfloat16", ("vision", "projector", "audio")),
    ],
)
def test_a_full_fine_tune(read, text, dtype, frozen):
    """Parts are frozen as for LoRA; what trains is in fp32 unless it is told otherwise."""
    spec = read(f"finetuning_type: full\n{text}")
    assert (spec.lora, spec.model.dtype, spec.training.freeze, spec.origin.unread) == (None, dtype, frozen, ())
