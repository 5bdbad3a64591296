"""A run of several data sets, in every format that can name them."""

from __future__ import annotations

import json

import pytest

from vlcheck.config.load import load
from vlcheck.config.native_text import write_native

FILES = {
    "trl": """model_name_or_path: a/b
use_peft: true
datasets:
  - {path: a.jsonl}
  - {path: b.jsonl, split: train}
""",
    "axolotl": """base_model: a/b
processor_type: AutoProcessor
adapter: lora
datasets:
  - {path: json, data_files: [a.jsonl, b.jsonl], split: train}
""",
    "llamafactory": """model_name_or_path: a/b
stage: sft
finetuning_type: lora
max_samples: 7
dataset: one,two
""",
    "ms-swift": """model: a/b
tuner_type: lora
torch_dtype: bfloat16
dataset: [a.jsonl, 'b.jsonl#7']
""",
}
PLACES = {"trl": 5, "axolotl": 5, "llamafactory": 5, "ms-swift": 4}
"""Lines that name the second one."""
SAMPLES = {"llamafactory": 7, "ms-swift": 7}
SPLITS = {"trl": "train", "axolotl": "train"}


@pytest.mark.parametrize("name", FILES)
def test_the_second_data_set_follows_the_first(name, tmp_path):
    """Both are read, with the place that names each; nothing of it is left over, and a converted run is equal."""
    for file in ("a.jsonl", "b.jsonl"):
        (tmp_path / file).touch()
    (tmp_path / "data").mkdir()
    entry = {"formatting": "sharegpt", "columns": {"messages": "conversations", "images": "images"}}
    described = {"one": {**entry, "file_name": "../a.jsonl"}, "two": {**entry, "file_name": "../b.jsonl"}}
    (tmp_path / "data/dataset_info.json").write_text(json.dumps(described))
    path = tmp_path / "sft.yaml"
    path.write_text(FILES[name])
    spec = load(path)
    (second,) = spec.data.more

    assert (spec.data.path, second.path) == (str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"))
    assert (second.split, second.samples) == (SPLITS.get(name, "train"), SAMPLES.get(name))
    assert spec.where("data.more.0").line == PLACES[name]
    assert spec.origin.unread == ()
    (tmp_path / "native.yaml").write_text(write_native(spec, "sft.yaml"))
    assert load(tmp_path / "native.yaml") == spec
