"""A file that is no run's config is told in one line what it is."""

from __future__ import annotations

import pytest

from vlcheck.config.load import load
from vlcheck.spec import ConfigError

CASES = {
    "notebook.ipynb": (
        '{"cells": [{"cell_type": "code"}], "nbformat": 4}',
        "trains nothing; allowed: a script that calls",
    ),
    "notebook.json": ('{\n "cells": [],\n "nbformat": 4}', "trains nothing; allowed: a script that calls"),
    "train.py": ("# comment\nimport torch\n", "trains nothing; allowed: a script that calls SFTTrainer(...)"),
    "train": ("from trl import SFTTrainer\n", "trains nothing; allowed: a script that calls SFTTrainer(...)"),
    "README.md": ("# A model\n\nIt is good.\n", "is a page of text"),
    "README": ("# A model\n\n```python\nimport torch\n```\n", "is a page of text"),
    "rows.jsonl": ('{"messages": []}\n{"messages": []}\n', "is a data set"),
    "rows.json": ('[\n  {"messages": []}]', "is a data set"),
    "requirements.txt": ("# pinned\ntorch==2.11\n", "is a list of packages"),
    "uv.lock": ("version = 1\n", "is a list of packages"),
    "poetry": ('[[package]]\nname = "torch"\n', "is a list of packages"),
    "package-lock.json": ('{"name": "x", "lockfileVersion": 3}', "is a list of packages"),
    "pyproject.toml": ('[project]\nname = "x"\n', "is a TOML file"),
    "ds_zero3.json": ('{"zero_optimization": {"stage": 3}, "bf16": {"enabled": true}}', "is a DeepSpeed config alone"),
    "accelerate.yaml": ("compute_environment: LOCAL_MACHINE\ndistributed_type: FSDP\n", "is accelerate's config alone"),
    "job.yaml": ("apiVersion: run.googleapis.com/v1\nkind: Job\n", "is a job; `vlcheck preflight` reads jobs"),
    "sky.yaml": ("resources: {accelerators: H100}\nrun: python train.py\n", "is a job; `vlcheck preflight` reads jobs"),
    "compose.yaml": ("services: {train: {image: x}}\n", "is a job; `vlcheck preflight` reads jobs"),
    "ci.yaml": ("name: ci\njobs: {}\n", "is a CI workflow"),
    "trainer_state.json": ('{"log_history": [], "global_step": 3}', "is the state of a finished run"),
    "config.json": ('{"model_type": "gemma3", "architectures": ["X"]}', "is a model's config"),
    "tokenizer_config.json": ('{"tokenizer_class": "GemmaTokenizer"}', "is a tokenizer's config"),
    "axolotl.yaml": ("base_model: a/b\nadapter: qlora\n", "is an Axolotl config for text only"),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_said_in_one_line_what_a_file_is(tmp_path, name):
    text, message = CASES[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / name)
    (problem,) = caught.value.problems

    assert problem.message.startswith(message)
    assert (problem.where.line, problem.where.column) == (1, 1)


def test_a_large_file_is_told_by_its_head(tmp_path):
    """A data set of any size is not called a config that is too large."""
    (tmp_path / "rows").write_text('{"text": "x"}\n' * 100_000)
    with pytest.raises(ConfigError, match="is a data set"):
        load(tmp_path / "rows")
