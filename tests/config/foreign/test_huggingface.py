"""Training arguments as JSON, adapter_config.json, and the folder of a finished run."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from peft import LoraConfig
from transformers import TrainerState, TrainingArguments

from vlcheck.config.foreign.huggingface import _STATE, ADAPTER_KEYS
from vlcheck.config.load import load
from vlcheck.spec import ConfigError

ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": "google/gemma-3-4b-it", "r": 16, "lora_alpha": 32}


@pytest.fixture
def folder(tmp_path):
    """A folder with files of these names."""

    def write(**files):
        for name, document in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(document, indent=1))
        return tmp_path

    return write


def refusal(path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path)
    (problem,) = caught.value.problems
    return problem.message


def test_every_key_of_the_installed_peft_has_a_row():
    assert set(ADAPTER_KEYS) == {field.name for field in fields(LoraConfig)}
    assert set(_STATE) <= {field.name for field in fields(TrainerState)}


def test_files_of_old_releases_are_understood(folder):
    """PEFT 0.2 and transformers 4.12: what went is told, with what does the same, and nothing else is left over."""
    home = folder(
        adapter_config={**ADAPTER, "enable_lora": None, "merge_weights": False},
        training_args={"optim": "adamw_hf", "sharded_ddp": [], "xpu_backend": None, "learning_rate": 1e-4},
    )
    spec = load(home / "training_args.json")

    assert spec.training.optim == "adamw_torch"
    assert {gone.where.key: gone.instead for gone in spec.origin.outdated} == {
        "optim": "optim: adamw_torch", "sharded_ddp": "fsdp", "xpu_backend": "ddp_backend",
    }  # fmt: skip
    assert [unread.where.key for unread in spec.origin.unread] == ["adapter_config", "adapter_config"]
    assert load(home / "training_args.json", framework_version="4.49.0").origin.outdated[0].where.key != "optim"


def test_a_key_of_no_peft_is_told_as_peft_s(folder):
    unread = load(folder(adapter_config={**ADAPTER, "lora_alfa": 8})).origin.unread

    assert unread[0].message.startswith("adapter_config.lora_alfa: no argument of PEFT; did you mean lora_alpha?")


def test_real_files_are_read_whole(folder, tmp_path):
    """What the installed PEFT and transformers write has no key that is not understood."""
    LoraConfig(r=16, target_modules="all-linear", base_model_name_or_path="a/b", task_type="CAUSAL_LM").save_pretrained(
        tmp_path
    )
    arguments = TrainingArguments(output_dir="out", learning_rate=1e-4, use_cpu=False, report_to=["wandb"])
    (tmp_path / "training_args.json").write_text(arguments.to_json_string())
    spec = load(tmp_path / "training_args.json")

    assert (spec.model.id, spec.lora.r, spec.lora.target_modules) == ("a/b", 16, "all-linear")
    assert (spec.training.learning_rate, spec.training.report_to, spec.training.framework) == (
        1e-4,
        ("wandb",),
        "transformers",
    )
    assert spec.origin.outdated == ()
    assert [unread.where.key for unread in spec.origin.unread] == ["adapter_config", "adapter_config"]
    assert spec == load(tmp_path)


def test_arguments_and_adapter_have_their_own_places(folder):
    """Each value points into the file that set it."""
    home = folder(adapter_config=ADAPTER, arguments={"output_dir": "out", "learning_rate": 1e-4, "warmup_ratio": 0.1})
    spec = load(home / "arguments.json")
    rank, rate = spec.where("lora.r"), spec.where("training.learning_rate")

    assert (rank.file, rank.line, rank.key) == (str(home / "adapter_config.json"), 4, "adapter_config.r")
    assert (rate.file, rate.line) == (str(home / "arguments.json"), 3)
    assert [gone.where.key for gone in spec.origin.outdated] == ["warmup_ratio"]
    assert load(home).origin.outdated == ()  # a record of a finished run


def test_a_finished_folder_says_what_is_not_in_it(folder):
    """Without arguments, the trainer's state tells some; the rest is not understood, with the rules that it touches."""
    state = {"train_batch_size": 2, "num_train_epochs": 3, "max_steps": 0, "log_history": []}
    spec = load(folder(adapter_config=ADAPTER, trainer_state=state))

    assert (spec.training.per_device_train_batch_size, spec.training.max_steps) == (2, -1)
    assert [unread.touches for unread in spec.origin.unread] == [("memory",), ("memory",), ("labels", "data")]


@pytest.mark.parametrize(
    ("files", "name", "message"),
    [
        ({"adapter_config": {**ADAPTER, "peft_type": "IA3"}}, "", 'peft_type is "IA3"; vlcheck judges LORA'),
        ({"adapter_config": {"peft_type": "LORA"}}, "", "adapter_config.json names no base; required: base_model_name"),
        ({"adapter_config": {**ADAPTER, "r": 0}}, "", "adapter_config.r is 0; allowed: an integer from 1 to 65536"),
        (
            {"args": {"learning_rate": 1, "seed": 1, "bf16": True}},
            "args.json",
            "holds training arguments alone, and names no model; put adapter_config.json beside it",
        ),
        ({"config": {}}, "", "is a model's folder; name the config of a run that trains it"),
        ({}, "", "is a directory; allowed: a config file, or a folder with adapter_config.json"),
    ],
)
def test_what_is_no_run_is_refused_in_one_line(folder, files, name, message):
    assert refusal(folder(**files) / name).startswith(message)


def test_a_folder_of_checkpoints_names_them(tmp_path):
    (tmp_path / "checkpoint-10").mkdir()
    (tmp_path / "checkpoint-10/adapter_config.json").write_text("{}")

    assert refusal(tmp_path) == "is a folder with adapters in it; name one of them: checkpoint-10"
