"""What findings advise, in the keys of the user's own file: written there, it sets the field that the rule meant."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import vlcheck
from vlcheck.config.foreign.advice import FORMATS, NATIVE, homes, in_own_keys, rewritten
from vlcheck.config.load import load
from vlcheck.finding import Finding, Outcome, Severity, Verdict, rule

HOME = Path(vlcheck.__file__).parent
SPEAKERS = (
    *(path for path in sorted(HOME.glob("rules/*.py")) if not path.name.startswith(("launch", "live"))),
    HOME / "model/target_fixes.py",
    HOME / "memory/alternatives.py",
)
"""Files whose texts advise settings of a run; those about jobs advise in the words of jobs."""

RUNS = {
    "trl": "model_name_or_path: a/b\nuse_peft: true\nload_in_4bit: true\n",
    "axolotl": "base_model: a/b\nprocessor_type: AutoProcessor\nadapter: qlora\nload_in_4bit: true\n"
    "datasets: [{path: a/b, type: chat_template}]\n",
    "llamafactory": "model_name_or_path: a/b\nstage: sft\nfinetuning_type: lora\nquantization_bit: 4\n"
    "dataset: mllm_demo\n",
    "ms-swift": "model: a/b\ntuner_type: lora\nquant_method: bnb\nquant_bits: 4\n"
    "dataset: ./rows.jsonl\ntorch_dtype: bfloat16\n",
}
"""A run of each format that a file can hold alone."""

REGEX = r"model\.language_model\.layers\.\d+\.(q|v)_proj"
ADVISED = {
    "attn_implementation": "sdpa",
    "bf16": "true",
    "bnb_4bit_compute_dtype": "float32",
    "bnb_4bit_quant_storage": "bfloat16",
    "exclude_modules": f"'{REGEX}'",
    "fp16": "false",
    "freeze": "[vision]",
    "gradient_accumulation_steps": "8",
    "gradient_checkpointing": "true",
    "gradient_checkpointing_kwargs": "{use_reentrant: false}",
    "gradient_checkpointing_share": "1.0",
    "kbit_preparation": "false",
    "layers_pattern": "[layers]",
    "layers_to_transform": "[0]",
    "learning_rate": "0.00005",
    "llm_int8_skip_modules": "[lm_head, model.vision_tower]",
    "logits": "supervised",
    "lora_dropout": "0",
    "max_grad_norm": "0.3",
    "max_length": "4096",
    "max_soft_tokens": "280",
    "modalities": "[text]",
    "modules_to_save": "[embed_vision]",
    "optim": "paged_adamw_8bit",
    "overflow": "drop",
    "per_device_eval_batch_size": "1",
    "per_device_train_batch_size": "1",
    "remove_unused_columns": "false",
    "target_modules": "all-linear",
    "target_parameters": "[experts.gate_up_proj]",
}
"""Fields that a rule advises a value for, and one such value."""
SAME = {"dtype", "experts", "framework", "memory_gib"}
"""Names that more than one section has, or that are not for a file of another tool."""


def texts(path: Path) -> list[str]:
    """A file's texts, without docstrings."""
    tree = ast.parse(path.read_text())
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.FunctionDef) and isinstance(node.body[0], ast.Expr)
    }
    return [
        n.value
        for n in ast.walk(tree)
        if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in docs
    ]


def test_every_setting_that_a_rule_advises_is_tried():
    """Field names with a value behind them, or called by name in a fix, in any text of the rules."""
    names = set(homes()) | SAME
    found = {
        name
        for path in SPEAKERS
        for text in texts(path)
        for name in re.findall(r"(?:^|[ {,])(\w+): ", text + " " * text.endswith(":"))
        if name in names
    }

    assert found <= {*ADVISED, *SAME}


@cache
def fields(format_: str, text: str, tmp_path: Path):
    path = tmp_path / f"{format_}.yaml"
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "rows.jsonl").touch()
    (tmp_path / "data" / "dataset_info.json").write_text('{"mllm_demo": {"hf_hub_url": "a/b", "columns": {}}}')
    path.write_text(RUNS[format_] + text)
    return load(path)


@pytest.mark.parametrize("format_", RUNS)
def test_a_setting_means_the_same_in_the_formats_key(format_, tmp_path):
    """The advised text, put into a file of the format, sets the field; what has no key is marked as vlcheck's own."""
    form, unknown = FORMATS[format_], set()
    for name, value in ADVISED.items():
        path = homes()[name]
        text = rewritten(f"{name}: {value}", form)
        if text.endswith(NATIVE):
            unknown.add(name)
            continue
        section, _, field = path.partition(".")
        if name == "max_soft_tokens":
            assert text == "IMAGE_MAX_TOKEN_NUM=280"  # ms-swift's variable of the environment
            continue
        spec = fields(format_, text.replace(", freeze", "\nfreeze") + "\n", tmp_path)
        held = getattr(getattr(spec, section), field)
        wanted = YAML(typ="safe", pure=True).load(value)
        held = list(held) if isinstance(held, tuple) else held
        held = {"use_reentrant": held.use_reentrant} if name == "gradient_checkpointing_kwargs" else held
        assert held == (["vision", "audio"] if name == "freeze" else wanted), text
        assert not spec.where(path).default, text
        assert spec.origin.unread == fields(format_, "", tmp_path).origin.unread, text
    assert unknown == WITHOUT_KEY[format_]


OURS = {"exclude_modules", "gradient_checkpointing_share", "kbit_preparation", "logits", "modalities", "overflow"}
"""No format but PEFT's own says any of these."""
PLAIN = {"layers_pattern", "layers_to_transform", "llm_int8_skip_modules"}
WITHOUT_KEY = {
    "trl": OURS | PLAIN | {"freeze", "bnb_4bit_compute_dtype", "max_soft_tokens"},
    "axolotl": OURS | {"freeze", "max_length", "max_soft_tokens"},
    "llamafactory": OURS | PLAIN
    | {"bnb_4bit_compute_dtype", "bnb_4bit_quant_storage", "max_soft_tokens", "target_parameters"},
    "ms-swift": OURS | PLAIN,
}  # fmt: skip


@pytest.mark.parametrize(("format_", "fix", "wanted"), [
    ("llamafactory", "max_length: 2812; or a lower max_soft_tokens", "cutoff_len: 2812; or a lower max_soft_tokens"),
    ("llamafactory", "raise max_length above the longest row", "raise cutoff_len above the longest row"),
    ("llamafactory", "remove modules_to_save", "remove additional_target"),
    ("llamafactory", "target_modules: all-linear, freeze: []", "lora_target: all, freeze_vision_tower: false, "
     "freeze_multi_modal_projector: false"),
    ("llamafactory", f"target_modules: '{REGEX}'", f"target_modules: '{REGEX}'{NATIVE}"),
    ("llamafactory", "gradient_checkpointing: true: 12.0 GiB", "disable_gradient_checkpointing: false: 12.0 GiB"),
    ("axolotl", "per_device_train_batch_size: 1 with gradient_accumulation_steps: 16: 12.0 GiB",
     "micro_batch_size: 1 with gradient_accumulation_steps: 16: 12.0 GiB"),
    ("axolotl", "intent: {vision: freeze}; or target_modules: all-linear",
     f"intent: {{vision: freeze}}{NATIVE}; or lora_target_linear: true"),
    ("axolotl", f"target_modules: '{REGEX}'", f"lora_target_modules: '{REGEX}'"),
    ("axolotl", "bnb_4bit_compute_dtype: bfloat16", "bnb_config_kwargs: {bnb_4bit_compute_dtype: bfloat16}"),
    ("ms-swift", f"target_modules: '{REGEX}'", f"target_regex: '{REGEX}'"),
    ("ms-swift", "training: {remove_unused_columns: false}", "remove_unused_columns: false"),
    ("trl", "modules_to_save: [lm_head, embed_tokens]", "lora_modules_to_save: [lm_head, embed_tokens]"),
    ("transformers", "modules_to_save: [lm_head]", "modules_to_save: [lm_head]"),
    ("trl", "end every answer with the turn's end token", "end every answer with the turn's end token"),
    ("trl", "", ""),
])  # fmt: skip
def test_advice_in_the_words_of_a_file(format_, fix, wanted):
    assert rewritten(fix, FORMATS[format_]) == wanted


def test_a_finding_is_told_in_the_words_of_its_file(tmp_path):
    """Its remedy alone changes."""
    check = rule("VLC999", "test", Severity.ERROR)(lambda: ())
    outcome = Outcome(check, Verdict.FOUND, (Finding("wrong", None, fix="remove modules_to_save"),))
    told = replace(outcome, findings=(replace(outcome.findings[0], fix="remove lora_modules_to_save"),))

    assert in_own_keys(outcome, fields("trl", "", tmp_path).origin) == told
