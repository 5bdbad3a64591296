"""ms-swift's config and the arguments of `swift sft`: a file becomes the run that ms-swift would train."""

from __future__ import annotations

import pytest

from tests.config.foreign.texts import over
from vlcheck.config.load import load
from vlcheck.spec import ConfigError

BASIC = """\
model: Qwen/Qwen2.5-VL-7B-Instruct
tuner_type: lora
dataset: rows.jsonl
torch_dtype: bfloat16
"""


@pytest.fixture
def read(tmp_path):
    """Read a config of these lines beside a file of rows."""

    def read(text: str = ""):
        (tmp_path / "rows.jsonl").write_text("{}")
        path = tmp_path / "sft.yaml"
        path.write_text(over(BASIC, text))
        return load(path)

    return read


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("", "lora.lora_alpha", 32),
        ("", "lora.target_modules", "all-linear"),
        ("", "training.freeze", ("vision", "projector", "audio")),
        ("", "training.gradient_accumulation_steps", 16),
        ("", "training.learning_rate", 1e-4),
        ("lora_rank: 64", "lora.r", 64),
        ("target_modules: [q_proj, v_proj]", "lora.target_modules", ("q_proj", "v_proj")),
        ("target_modules: all-linear\nfreeze_vit: false", "training.freeze", ("projector",)),
        ("freeze_vit: false\nfreeze_aligner: 'false'", "training.freeze", ()),
        ("freeze_llm: true", "training.freeze", ("vision", "projector", "language", "audio")),
        ("target_regex: '.*q_proj'", "lora.target_modules", ".*q_proj"),
        ("quant_method: bnb\nquant_bits: 4", "quantization.bnb_4bit_quant_type", "nf4"),
        ("quant_method: bnb\nquant_bits: 8", "quantization.load_in_8bit", True),
        ("attn_impl: flash_attn", "model.attn_implementation", "flash_attention_2"),
        ("max_pixels: 1003520", "data.max_soft_tokens", 1280),
        ("ENV: {MAX_PIXELS: 602112}", "data.max_soft_tokens", 768),
        ("model_kwargs: '{\"max_pixels\": 602112}'", "data.max_soft_tokens", 768),
        ("ENV: {NPROC_PER_NODE: 4}", "hardware.count", 4),
        ("gradient_checkpointing_kwargs: '{\"use_reentrant\": false}'", "training.reentrant", False),
        ("deepspeed: zero2_offload", "training.zero_optimization.offload_optimizer.device", "cpu"),
        ("fsdp: full_shard auto_wrap", "training.fsdp", "full_shard auto_wrap"),
        ("use_logits_to_keep: false", "training.logits", "all"),
        ("use_liger_kernel: true", "training.logits", "fused"),
        ("dataset: [rows.jsonl#500]", "data.train_samples", 500),
        ("dataset: 'HF::a/b'", "data.dataset", "a/b"),
        ("dataset: a/b\nuse_hf: true", "data.dataset", "a/b"),
        ("max_length: 2048", "data.max_length", 2048),
        ("warmup_ratio: 0.05", "training.warmup_steps", 0.05),
        ("max_epochs: 2", "training.num_train_epochs", 2),
    ],
)
def test_what_a_key_means(read, text, path, value):
    found = read(text)
    for field in path.split("."):
        found = getattr(found, field)
    assert found == value


@pytest.mark.parametrize(
    ("text", "touches"),
    [
        ("loss_scale: last_round", ("labels",)),
        ("truncation_strategy: left", ("labels",)),
        ("template: llava1_5_hf", ("labels",)),
        ("quant_method: hqq\nquant_bits: 4", ("memory",)),
        ("vit_gradient_checkpointing: false", ("memory",)),
        ("adapters: [out]", ("placement",)),
        ("dataset: a/b", ("data",)),
        ("dataset: [a/b, rows.jsonl]", ("data",)),
        ("val_dataset: rows.jsonl", ("data",)),
        ("external_plugins: plugin.py", ("memory", "labels", "placement", "data")),
        ("lora_ranks: 8", ("memory", "labels", "placement", "data")),
    ],
)
def test_what_is_not_understood_is_kept(read, text, touches):
    (unread,) = read(text).origin.unread

    assert unread.touches == touches


@pytest.mark.parametrize(("text", "instead"), [("train_type: lora", "tuner_type"), ("sft_type: lora", "tuner_type")])
def test_what_is_gone_is_kept_with_its_replacement(read, text, instead):
    (gone,) = read(text).origin.outdated

    assert (gone.message, gone.instead) == (f"{text.partition(':')[0]} is no argument of ms-swift 4.6", instead)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "tuner_type: adalora",
            'tuner_type is "adalora"; vlcheck judges runs of LoRA and full ones; allowed: lora, full',
        ),
        ("rlhf_type: dpo", 'rlhf_type is "dpo"; vlcheck judges supervised fine-tuning'),
        ("dataset: []", "dataset is []; allowed: one data set or more"),
        ("torch_dtype: half", 'torch_dtype is "half"; allowed: one of bfloat16, float16, float32'),
        ("gradient_checkpointing_kwargs: '{x'", "gradient_checkpointing_kwargs is"),
    ],
)
def test_what_cannot_be_a_run_is_one_line(read, text, message):
    with pytest.raises(ConfigError) as caught:
        read(text)
    (problem,) = caught.value.problems

    assert problem.message.startswith(message)


def test_a_command_is_read_with_its_environment(read, tmp_path):
    """Flags have their own lines; variables that ms-swift reads count, the last before the command."""
    read()
    (tmp_path / "train.sh").write_text(
        "export MAX_PIXELS=100352\nCUDA_VISIBLE_DEVICES=0,1 \\\nNPROC_PER_NODE=2 \\\nMAX_PIXELS=1003520 \\\n"
        "swift sft \\\n  --model Qwen/Qwen2.5-VL-7B-Instruct \\\n  --dataset rows.jsonl \\\n  --lora_rank 16 \\\n"
        "  --freeze_vit false\n"
    )
    spec = load(tmp_path / "train.sh")

    assert (spec.origin.format, spec.lora.r, spec.hardware.count) == ("ms-swift", 16, 2)
    assert (spec.data.max_soft_tokens, spec.training.freeze) == (1280, ("projector",))
    assert (spec.where("lora.r").line, spec.where("data.max_soft_tokens").line) == (8, 4)
    assert spec.training.gradient_accumulation_steps == 8


def test_a_full_fine_tune(read):
    """Tower and aligner are frozen unless it is told otherwise; keys of adapters have no effect."""
    assert read("tuner_type: full\nlora_rank: 4").training.freeze == ("vision", "projector", "audio")
    spec = read("tuner_type: full\nlora_rank: 4\nfreeze_vit: false\nfreeze_aligner: false")
    assert (spec.lora, spec.training.freeze, spec.model.dtype) == (None, (), "bfloat16")
    assert {where.key for where in spec.origin.idle} >= {"tuner_type", "lora_rank"}
