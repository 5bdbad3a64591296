"""TRL's config: every argument of the installed version has its row; a file becomes the run that TRL would train."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import transformers
import trl
from transformers import TrainingArguments
from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, SFTConfig

from vlcheck.config.foreign.keys import Gone
from vlcheck.config.foreign.transformers import ARGUMENTS
from vlcheck.config.foreign.trl import KEYS
from vlcheck.config.frameworks import TRL
from vlcheck.config.load import load
from vlcheck.spec import ConfigError

BASIC = "model_name_or_path: google/gemma-3-4b-it\nuse_peft: true\n"
LAUNCHER = {"num_processes", "num_machines", "accelerate_config", "env"}
"""Keys of a file for `trl sft` that are not its dataclasses': its parser's, and those that it hands to accelerate."""


@pytest.fixture
def read(tmp_path):
    """Read a config of these lines."""

    def read(text: str, *, basic: str = BASIC, **options):
        path = tmp_path / "sft.yaml"
        path.write_text(basic + text)
        return load(path, **options)

    return read


def refusals(read, text: str, **options) -> list[str]:
    """What is wrong with a config, as places in it and messages."""
    with pytest.raises(ConfigError) as caught:
        read(text, **options)
    return [f"{p.where.line}:{p.where.column}: {p.message}" for p in caught.value.problems]


def arguments(*dataclasses: type) -> set[str]:
    """Names that the dataclasses take."""
    return {field.name for dataclass in dataclasses for field in fields(dataclass) if field.init}


@pytest.mark.parametrize(
    ("table", "taken", "beside"),
    [
        (ARGUMENTS, arguments(TrainingArguments), set()),
        (KEYS, arguments(ScriptArguments, SFTConfig, ModelConfig, DatasetMixtureConfig), LAUNCHER),
    ],
    ids=["transformers", "trl"],
)
def test_every_argument_of_the_installed_version_has_a_row(table, taken, beside):
    """No argument is unknown, and each that is said to be gone is."""
    gone = {name for name, fate in table.items() if isinstance(fate, Gone)}

    assert set(table) - gone == taken | beside
    assert not gone & taken


def test_defaults_of_the_file_are_the_installed_ones():
    """What `ModelConfig` does by itself."""
    theirs = {"lora.r": "lora_r", **{path: path.partition(".")[2] for path in TRL.file_defaults}} | {"lora.r": "lora_r"}
    for path, fact in TRL.file_defaults.items():
        if not callable(fact.value):
            assert getattr(ModelConfig(), theirs[path]) == fact.value, path


def test_a_file_becomes_the_run_that_trl_would_train(read):
    """Its own values stand at their lines; the rest are TRL's, and say so."""
    spec = read("lora_r: 32\nload_in_4bit: true\nlora_target_modules: [all-linear]\nlearning_rate: 2e-4\n")

    assert (spec.lora.r, spec.lora.lora_alpha, spec.lora.target_modules) == (32, 32, "all-linear")
    assert (spec.model.dtype, spec.quantization.bnb_4bit_compute_dtype) == ("float32", "float32")
    assert spec.quantization.bnb_4bit_quant_type == "nf4"
    assert (spec.training.learning_rate, spec.data.max_length) == (2e-4, 1024)
    assert (spec.training.framework, spec.training.framework_version) == ("trl", trl.__version__)
    where = spec.where("lora.r")
    assert (where.line, where.column, where.key, where.default) == (3, 1, "lora_r", "")
    assert spec.where("model.dtype").default == "default of trl 1.16"
    assert spec.origin.unread == spec.origin.outdated == ()


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("dtype: auto", "model.dtype", "bfloat16"),
        ("model_init_kwargs: {dtype: float16}", "model.dtype", "float16"),
        ("load_in_8bit: yes", "quantization.load_in_8bit", True),
        ("lora_target_modules: [q_proj, v_proj]", "lora.target_modules", ("q_proj", "v_proj")),
        ("gradient_checkpointing_kwargs:\n  use_reentrant: true", "training.reentrant", True),
        ("activation_checkpointing: false", "training.gradient_checkpointing", False),
        ("use_liger_kernel: true", "training.logits", "fused"),
        ("report_to: [trackio, wandb]", "training.report_to", ("wandb",)),
        ("report_to: none", "training.report_to", None),
        ("warmup_ratio: 0.03", "training.warmup_steps", 0.03),
        ("warmup_ratio: 0.03\nwarmup_steps: 5", "training.warmup_steps", 5),
        ("max_length: null", "data.max_length", None),
        ("eval_strategy: steps", "data.eval_split", "test"),
        ("eval_strategy: no\ndataset_test_split: val", "data.eval_split", None),
        ("dataset_name: a/b", "data.dataset", "a/b"),
        ("datasets: [{path: a/b, split: 'train[:1%]'}]", "data.train_split", "train[:1%]"),
        ("lr_scheduler_type: warmup_stable_decay", "training.lr_scheduler_type", "linear"),
        ("assistant_only_loss: true", "training.assistant_only_loss", True),
        ("num_processes: 4", "hardware.count", 4),
    ],
)
def test_what_a_key_means(read, text, path, value):
    section, _, field = path.partition(".")
    assert getattr(getattr(read(text), section), field) == value


def test_a_folder_beside_the_config_is_the_model_and_the_data(read, tmp_path):
    """Names that are folders here are not looked for on the Hub."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base/config.json").write_text("{}")
    (tmp_path / "rows").mkdir()
    spec = read("dataset_name: rows", basic="use_peft: true\nmodel_name_or_path: base\n")

    assert (spec.model.id, spec.data.path) == (str(tmp_path / "base"), str(tmp_path / "rows"))


@pytest.mark.parametrize(
    ("text", "message", "touches"),
    [
        ("torch_compile: true", "torch_compile: true is not part of what vlcheck judges", ("memory",)),
        ("optim: lion_8bit", 'optim: "lion_8bit" is not part of what vlcheck judges', ("memory",)),
        ("eos_token: <end>", 'eos_token: "<end>" is not part of what vlcheck judges', ("labels",)),
        (
            "dataset_train_split: 'train[:1%]'",
            'dataset_train_split: "train[:1%]" is no name of a split, and trl slices none; `datasets: [{path, split}]` '
            "does",
            ("data",),
        ),
        ("dataset_config: de", 'dataset_config: "de" is not part of what vlcheck judges', ("data",)),
        ("model_init_kwargs: {max_memory: 1}", "model_init_kwargs.max_memory: no argument of trl 1.16.0", None),
        ("learnin_rate: 1", "learnin_rate: no argument of trl 1.16.0; did you mean learning_rate?", None),
        ("image_folder: x", "image_folder: no argument of trl 1.16.0", None),
    ],
)
def test_what_is_not_understood_is_kept(read, text, message, touches):
    """Such a key has its line, and what it can change."""
    (unread,) = read(text).origin.unread

    assert (unread.where.line, unread.message) == (3, message)
    assert unread.touches == (touches or ("memory", "labels", "placement", "data"))


@pytest.mark.parametrize("text", ["torch_compile: false", "packing_strategy: bfd", "hub_model_id: x", "tf32: true"])
def test_what_changes_nothing_is_passed_over(read, text):
    origin = read(text).origin

    assert [where.line for where in origin.idle] == [3]
    assert origin.unread == ()


@pytest.mark.parametrize(
    ("text", "package", "instead"),
    [
        ("max_seq_length: 2048", f"trl {trl.__version__}", "max_length"),
        ("torch_dtype: bfloat16", f"trl {trl.__version__}", "dtype"),
        ("evaluation_strategy: steps", f"transformers {transformers.__version__}", "eval_strategy"),
        ("group_by_length: true", f"transformers {transformers.__version__}", "train_sampling_strategy"),
        ("overwrite_output_dir: true", f"transformers {transformers.__version__}", ""),
    ],
)
def test_what_is_gone_is_kept_with_its_replacement(read, text, package, instead):
    spec = read(text)
    (gone,) = spec.origin.outdated

    assert gone.message == f"{text.partition(':')[0]} is no argument of {package}"
    assert gone.instead.startswith(instead)
    assert bool(gone.instead) == bool(instead)
    assert gone.where.line == 3


def test_what_is_gone_is_judged_as_it_was_meant(read):
    assert read("max_seq_length: 2048").data.max_length == 2048
    assert read("torch_dtype: float16").model.dtype == "float16"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("lora_r: a", '3:1: lora_r is "a"; allowed: an integer from 1 to 65536'),
        ("learning_rate: -1", "3:1: learning_rate is -1; allowed: a finite number above 0 and at most 10"),
        ("lora_target_modules: [1, x]", "3:23: lora_target_modules.0 is 1; allowed: a string of 1 to 2000 characters"),
        (
            "load_in_4bit: true\nload_in_8bit: true",
            "3:1: quantization: load_in_4bit is true, load_in_8bit is true; exactly one of load_in_4bit and "
            "load_in_8bit must be true",
        ),
    ],
)
def test_what_is_wrong_is_told_in_the_files_own_words(read, text, problem):
    assert refusals(read, text) == [problem]


def test_a_run_that_vlcheck_does_not_judge_is_refused_in_one_line(read):
    """A config without a model."""
    assert refusals(read, "lora_r: 4\nuse_peft: true", basic="model_name_or_path: null\n") == [
        "1:1: names no model; required: model_name_or_path"
    ]


def test_a_stated_version_decides_what_is_gone_and_what_is_the_default(read):
    """TRL 0.24 takes `torch_dtype`, and computes all logits; which transformers lies beside it is not known."""
    old = read(
        "torch_dtype: bfloat16\nwarmup_ratio: 0.1\nmax_seq_length: 512\nload_in_4bit: true", framework_version="0.24.0"
    )

    assert [gone.message for gone in old.origin.outdated] == ["max_seq_length is no argument of trl 0.24.0"]
    assert (old.training.logits, old.quantization.bnb_4bit_quant_storage) == ("all", "bfloat16")
    assert read("max_seq_length: 512", framework_version="0.16").origin.outdated == ()


# --------------------------------------------------------------------------- what the GPUs divide


ZERO = '{"zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"}, "overlap_comm": true}, "bf16": {}}'
ACCELERATE = "distributed_type: DEEPSPEED\nnum_processes: 8\ndeepspeed_config:\n  zero_stage: 2\n"
SHARDED = "distributed_type: FSDP\nnum_processes: 2\nfsdp_config:\n  fsdp_version: 2\n  fsdp_offload_params: true\n"


def test_deepspeed_is_read_where_it_stands(read, tmp_path):
    """A JSON file beside the config: its values have its places."""
    (tmp_path / "ds.json").write_text(ZERO)
    spec = read("deepspeed: ds.json\n")
    where = spec.where("training.zero_optimization.stage")

    assert (spec.training.zero_optimization.stage, spec.training.zero_optimization.offload_param.device) == (3, "cpu")
    assert (where.file, where.line, where.column) == (str(tmp_path / "ds.json"), 1, 24)
    assert spec.origin.unread == ()


def test_accelerates_config_is_read(read, tmp_path):
    """ZeRO and FSDP; the number of processes that the run itself names outranks it."""
    (tmp_path / "zero.yaml").write_text(ACCELERATE)
    (tmp_path / "fsdp.yaml").write_text(SHARDED)
    zero, more = read("accelerate_config: zero.yaml"), read("accelerate_config: zero.yaml\nnum_processes: 4")
    fsdp = read("accelerate_config: fsdp.yaml")

    assert (zero.training.zero_optimization.stage, zero.hardware.count, more.hardware.count) == (2, 8, 4)
    assert (fsdp.training.fsdp, fsdp.hardware.count) == ("full_shard auto_wrap", 2)
    assert [unread.where.key for unread in fsdp.origin.unread] == ["accelerate_config.fsdp_config.fsdp_offload_params"]


@pytest.mark.parametrize("file", sorted((Path(trl.__file__).parent / "accelerate_configs").glob("*.yaml")))
def test_configs_that_trl_brings_are_known_by_name(read, file):
    """By name they mean what their files say."""
    named, read_whole = read(f"accelerate_config: {file.stem}"), read(f"accelerate_config: {file}")

    assert (named.training, named.hardware) == (read_whole.training, read_whole.hardware)
    assert named.origin.unread == read_whole.origin.unread == ()


def test_a_file_that_is_not_here_is_not_understood(read):
    (unread,) = read("deepspeed: gone.json").origin.unread

    assert unread.message == 'deepspeed: "gone.json" is not here, so it was not read'
    assert unread.touches == ("memory",)


def test_without_use_peft_every_weight_is_trained(read):
    """TRL then passes over what the file says of adapters, and a key that says it is a warning."""
    for text in ("use_peft: false", "bf16: true"):
        spec = read(text, basic="model_name_or_path: a/b\n")
        assert (spec.lora, spec.origin.unread, spec.model.dtype) == (None, (), "float32")
    (lost,) = read("lora_r: 4\nlora_alpha: 8", basic="model_name_or_path: a/b\n").origin.unread
    assert lost.message == "lora_r: trl passes over it without use_peft, and every weight is trained"
    quantised = "quantization: quantised weights cannot be trained, and without lora every weight is; add lora"
    assert refusals(read, "load_in_4bit: true", basic="model_name_or_path: a/b\n") == [f"2:1: {quantised}"]
