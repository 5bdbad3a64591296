"""Axolotl's config: a file becomes the run that Axolotl would train."""

from __future__ import annotations

import pytest

from tests.config.foreign.texts import over
from vlcheck.config.load import load
from vlcheck.spec import ConfigError

BASIC = """\
base_model: google/gemma-3-4b-it
processor_type: AutoProcessor
adapter: lora
learning_rate: 2e-4
datasets: [{path: a/b, type: chat_template}]
"""


@pytest.fixture
def read(tmp_path):
    """Read a config of these lines; a line of the basic ones gives way to one of the same key."""

    def read(text: str = ""):
        path = tmp_path / "axolotl.yaml"
        path.write_text(over(BASIC, text))
        return load(path)

    return read


def test_settings_that_runs_share_are_merged(tmp_path):
    """Axolotl reads its file with PyYAML, which knows merge keys; a value stands where it was written."""
    path = tmp_path / "axolotl.yaml"
    path.write_text(f"plugins: []\nbnb_config_kwargs: &all {{lora_r: 32, seed: 1_000}}\n<<: *all\n{BASIC}")
    spec = load(path)

    assert (spec.lora.r, spec.training.seed) == (32, 1000)
    assert (spec.where("lora.r").line, spec.where("lora.r").column) == (2, 26)


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("", "training.per_device_train_batch_size", 1),
        ("", "training.save_strategy", "epoch"),
        ("micro_batch_size: 4", "training.per_device_eval_batch_size", 4),
        ("lora_r: 32", "lora.r", 32),
        ("peft_use_dora: true", "lora.use_dora", True),
        ("lora_target_modules: 'model.language_model.layers.[\\d]+.q_proj'", "lora.target_modules",
         "model.language_model.layers.[\\d]+.q_proj"),
        ("lora_target_linear: true", "lora.target_modules", "all-linear"),
        ("adapter: qlora\nload_in_4bit: true", "quantization.bnb_4bit_quant_storage", "bfloat16"),
        ("adapter: qlora\nload_in_4bit: true\nbnb_config_kwargs: {bnb_4bit_quant_type: fp4}",
         "quantization.bnb_4bit_quant_type", "fp4"),
        ("load_in_8bit: true", "quantization.load_in_8bit", True),
        ("warmup_ratio: 0.1", "training.warmup_steps", 0.1),
        ("warmup_ratio: 0.1\nwarmup_steps: 7", "training.warmup_steps", 7),
        ("bf16: auto", "training.bf16", True),
        ("fp16: true", "model.dtype", "float16"),
        ("bfloat16: true", "training.bf16", False),
        ("gradient_checkpointing: offload", "training.gradient_checkpointing", True),
        ("gradient_checkpointing_kwargs: {use_reentrant: false}", "training.reentrant", False),
        ("activation_offloading: true", "training.activation_offloading", True),
        ("flash_attention: true", "model.attn_implementation", "flash_attention_2"),
        ("plugins: [axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin]", "training.logits", "fused"),
        ("plugins: [axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin]\ncut_cross_entropy: false",
         "training.logits", "all"),
        ("liger_fused_linear_cross_entropy: true", "training.logits", "fused"),
        ("fsdp_config: {fsdp_reshard_after_forward: false, fsdp_offload_params: true}", "training.fsdp",
         "shard_grad_op auto_wrap offload"),
        ("fsdp: [full_shard, auto_wrap]", "training.fsdp", "full_shard auto_wrap"),
        ("sequence_len: 4096", "data.max_length", None),
        ("datasets: [{path: a/b, split: 'train[:1%]'}]", "data.train_split", "train[:1%]"),
        ("datasets: [{path: json, data_files: [x/rows.jsonl]}]\nval_set_size: 0.1", "training.eval_strategy", "no"),
        ("test_datasets: [{path: a/b, split: test}]\nevals_per_epoch: 4", "training.eval_steps", 0.25),
        ("output_dir:", "training.output_dir", "trainer_output"),
    ],
)  # fmt: skip
def test_what_a_key_means(read, tmp_path, text, path, value):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/rows.jsonl").write_text("{}")
    section, _, field = path.partition(".")
    assert getattr(getattr(read(text), section), field) == value


@pytest.mark.parametrize(
    ("text", "touches"),
    [
        ("torch_compile: true", ("memory",)),
        ("optimizer: muon", ("memory",)),
        ("chat_template: llama3", ("labels",)),
        ("lora_model_dir: ./out", ("placement",)),
        ("image_size: 512", ("memory", "labels")),
        ("train_on_inputs: true", ("labels",)),
        ("datasets: [{path: a/b, train_on_eos: none}]", ("labels",)),
        ("datasets: [{path: a/b, field_messages: dialogue}]", ("data",)),
        ("datasets: [{path: a/b}, {path: 3}]", ("data",)),
        ("plugins: [mine.Plugin]", ("memory", "labels", "placement", "data")),
        ("micro_batchsize: 2", ("memory", "labels", "placement", "data")),
    ],
)
def test_what_is_not_understood_is_kept(read, text, touches):
    (unread,) = read(text).origin.unread

    assert unread.touches == touches
    assert unread.where.line >= 5


def test_a_template_of_the_models_own_is_told_and_not_doubted(read):
    origin = read("chat_template: gemma3").origin

    assert origin.unread == ()
    (told,) = origin.assumed
    assert told == "chat_template: gemma3 restates the model's own chat template; labels were judged with that one"


@pytest.mark.parametrize(
    ("text", "instead"),
    [("evaluation_strategy: steps", "eval_strategy"), ("noisy_embedding_alpha: 5", "neftune_noise_alpha")],
)
def test_what_is_gone_is_kept_with_its_replacement(read, text, instead):
    (gone,) = read(text).origin.outdated

    assert (gone.message, gone.instead) == (f"{text.partition(':')[0]} is no argument of axolotl 0.19", instead)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adapter: llama-adapter", 'adapter is "llama-adapter"; vlcheck judges runs of LoRA and full ones'),
        ("adapter: qlora", "adapter is qlora and load_in_4bit is not true"),
        ("rl: dpo", 'rl is "dpo"; vlcheck judges supervised fine-tuning'),
        ("datasets: []", "datasets is []; allowed: a list of mappings with a path"),
        ("lora_r: many", 'lora_r is "many"; allowed: an integer'),
        ("datasets: [{path: ./gone.jsonl}]", 'datasets.0.path is "./gone.jsonl"; allowed: an existing folder or file'),
        ("processor_type:", None),
    ],
)
def test_what_cannot_be_a_run_is_one_line(read, text, message):
    if message is None:
        read(text)
        return
    with pytest.raises(ConfigError) as caught:
        read(text)
    (problem,) = caught.value.problems

    assert problem.message.startswith(message)
