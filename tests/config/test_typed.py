"""`--set KEY=VALUE` fills in or overrules a field of any format's run, and says what is wrong with it in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlcheck.config.load import load
from vlcheck.spec import ConfigError

NATIVE = "lora: {r: 4}\ndata: {dataset: a/b}\ntraining: {framework: trl}\n"
TRL = "model_name_or_path: a/b\nuse_peft: true\nlora_r: 4\nlearning_rate: 1e-4\nlora_rnak: 3\n"


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Read a config with these settings, from a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def read(text: str, *settings: str):
        Path("run.yaml").write_text(text)
        return load("run.yaml", settings=settings)

    return read


def refusal(read, text: str, *settings: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text, *settings)
    (problem,) = caught.value.problems
    return str(problem)


@pytest.mark.parametrize("text", [f"model: {{id: x/y}}\n{NATIVE}", TRL])
def test_it_overrules_the_file(read, text):
    """The place is the command line; what is not set stays, with its place; defaults follow."""
    spec = read(text, "lora.r=16", "lora.target_modules=[q_proj, v_proj]", "training.bf16=false", "model.id=c/d")

    assert (spec.model.id, spec.lora.r, spec.lora.target_modules) == ("c/d", 16, ("q_proj", "v_proj"))
    assert spec.training.bf16 is False
    assert str(spec.where("lora.target_modules")) == "<command line>:1"
    assert spec.where("training.framework").file == "run.yaml"
    assert spec.where("data.max_length").default.startswith("default of trl")


def test_it_fills_in_what_a_config_of_ours_lacks(read):
    assert "section model is missing" in refusal(read, NATIVE)
    assert read(NATIVE, "model.id=x/y").model.id == "x/y"


def test_a_source_of_rows_takes_the_place_of_another(read):
    """A path is relative to where the command runs."""
    Path("rows.jsonl").write_text("")
    spec = read(f"model: {{id: x/y}}\n{NATIVE}", "data.path=rows.jsonl")

    assert (spec.data.dataset, spec.data.path) == (None, str(Path("rows.jsonl").absolute()))


def test_quantisation_and_nested_keys(read):
    spec = read(TRL, "quantization.load_in_4bit=true", "training.gradient_checkpointing_kwargs.use_reentrant=true")

    assert (spec.quantization.load_in_4bit, spec.training.reentrant) == (True, True)
    assert spec.origin.unread[0].where.key == "lora_rnak"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("lora.rank=4", "<command line>:1:1: unknown key lora.rank; write r"),
        ("lora.r=four", '<command line>:1:1: lora.r is "four"; allowed: an integer from 1 to 65536'),
        ("lora", "<command line>:1:1: --set lora: allowed: section.key=value, as in lora.r=16"),
        ("r=16", "<command line>:1:1: --set r=16: allowed: section.key=value, as in lora.r=16"),
        ("lora.target_modules=[q", "--set lora.target_modules:1:10: not valid YAML"),
    ],
)
@pytest.mark.parametrize("text", [f"model: {{id: x/y}}\n{NATIVE}", TRL])
def test_what_is_wrong_is_told_in_one_line(read, text, setting, message):
    assert message in refusal(read, text, setting)


def test_the_command_takes_it(vlcheck):
    """In `convert`, `audit` and `fit`."""
    Path("sft.yaml").write_text(TRL)
    code, out, _ = vlcheck("convert", "sft.yaml", "--set", "lora.r=16", "--set", "data.max_length=null")

    assert code == 0
    assert "  r: 16  # lora.r, <command line>:1\n" in out
    assert "  max_length: null  # data.max_length, <command line>:1\n" in out
    for command in ("audit", "fit"):
        code, _, error = vlcheck(command, "sft.yaml", "--set", "lora.r=0")
        assert (code, error) == (2, "error: <command line>:1:1: lora.r is 0; allowed: an integer from 1 to 65536\n")
