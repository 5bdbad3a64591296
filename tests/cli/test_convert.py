"""`vlcheck convert`: the same run in vlcheck's own words, each line with its origin."""

from __future__ import annotations

import json

import pytest

from vlcheck.config.load import load

SFT = """model_name_or_path: google/gemma-3-4b-it
use_peft: true
lora_target_modules: all-linear
load_in_4bit: true
dtype: bfloat16
run_name: "7"
max_seq_length: 2048
torch_compile: true
push_to_hub: true
gradient_checkpointing_kwargs: {use_reentrant: false}
deepspeed: {zero_optimization: {stage: 2}}
"""
SCRIPT = (
    "trl sft --model_name_or_path a/b --use_peft --learning_rate 1e-4 --lora_target_modules q_proj v_proj --lora_r $R"
)
ADAPTER = json.dumps(
    {
        "peft_type": "LORA",
        "base_model_name_or_path": "a/b",
        "rank_pattern": {"q_proj": 4},
        "target_modules": "^model.*",
    }
)
FILES = {
    "sft.yaml": SFT,
    "train.sh": SCRIPT,
    "adapter_config.json": ADAPTER,
    "own.yaml": "model: {id: a/b}\nlora: {}\n",
}


@pytest.mark.parametrize("name", FILES)
def test_what_is_written_is_the_same_run(vlcheck, tmp_path, name):
    """Read again, it gives an equal run; the defaults of the framework are written out."""
    (tmp_path / name).write_text(FILES[name])
    code, out, err = vlcheck("convert", name)
    (tmp_path / "native.yaml").write_text(out)

    assert (code, err) == (0, "")
    assert load(tmp_path / "native.yaml") == load(tmp_path / name)


def test_each_line_says_where_its_value_came_from(vlcheck, tmp_path):
    """The file's own key and line, or whose default; what has no place in the run is told above."""
    (tmp_path / "sft.yaml").write_text(SFT)
    lines = vlcheck("convert", "sft.yaml")[1].splitlines()

    assert lines[:4] == [
        "# sft.yaml as a vlcheck config; each line says where its value came from.",
        "# Not understood: torch_compile: true is not part of what vlcheck judges (sft.yaml:8)",
        "# max_seq_length is no argument of trl 1.16.0; max_length is meant (sft.yaml:7)",
        "# Without effect on what is judged: push_to_hub",
    ]
    assert "  id: google/gemma-3-4b-it  # model_name_or_path, sft.yaml:1" in lines
    assert "  r: 16  # default of trl 1.16" in lines
    assert '  run_name: "7"  # run_name, sft.yaml:6' in lines
    assert all("  # " in line for line in lines if line.startswith("  "))


def test_a_config_is_written_to_a_file(vlcheck, tmp_path):
    (tmp_path / "sft.yaml").write_text(SFT)

    assert vlcheck("convert", "sft.yaml", "-o", "run.yaml") == (0, "wrote run.yaml; next: vlcheck audit run.yaml\n", "")
    assert load(tmp_path / "run.yaml").lora.r == 16
    assert (
        vlcheck("convert", "sft.yaml", "-o", "sft.yaml")[2] == "error: --output sft.yaml would overwrite the config\n"
    )
    assert vlcheck("convert", "gone.yaml")[0] == 2


def test_audit_takes_the_config_of_the_folder(vlcheck, tmp_path):
    """Without an argument it is vlcheck.yaml."""
    assert vlcheck("audit") == (
        2,
        "",
        "error: vlcheck.yaml:1:1: no such file; `vlcheck init` writes a commented one\n",
    )
    (tmp_path / "vlcheck.yaml").write_text("model: {id: a/b}\nlora: {}\n")
    assert "VLC999" in vlcheck("audit", "--select", "VLC999")[2]
