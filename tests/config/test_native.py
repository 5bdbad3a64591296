"""The native dialect: what it accepts, how it keeps places, and its schema."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import MISSING, FrozenInstanceError, fields, is_dataclass
from pathlib import Path
from time import perf_counter

import pytest

import vlcheck
from vlcheck.config.load import load, load_mapping
from vlcheck.config.native import recognises, schema
from vlcheck.spec import ConfigError, Lora, Quantization, RunSpec, Training

STARTER = Path(vlcheck.__file__).parent / "recipes" / "starter.yaml"
SMALLEST = {"model": {"id": "org/name"}, "lora": {}}


def test_starter_loads():
    """The config that `vlcheck init` writes is one that vlcheck reads."""
    spec = load(STARTER)

    assert spec.model.id == "google/gemma-4-31B-it"
    assert spec.lora.target_modules == "all-linear"
    assert spec.training.learning_rate == 5e-5
    assert spec.training.gradient_checkpointing_kwargs.use_reentrant is False
    assert spec.quantization.load_in_4bit
    assert spec.data.modalities == ("image", "text")


def test_starter_shows_every_section():
    """Each section stands in the starter, with a comment on most lines."""
    document, text = load(STARTER), STARTER.read_text()

    assert all(
        f"\n{field.name}:" in text for field in fields(RunSpec) if field.name not in ("sources", "origin", "ignores")
    )
    assert document.sources["intent.vision"].line == 1 + text.splitlines().index("  vision: train")


def test_commented_keys_of_the_starter_load(tmp_path):
    """Keys that the starter shows commented out are real ones, with allowed values."""
    text = STARTER.read_text()
    lines = [
        line.replace("  # ", "  ", 1) if line.startswith("  # ") and ": " in line else line for line in text.split("\n")
    ]
    path = tmp_path / "all.yaml"
    path.write_text("\n".join(lines))

    assert load(path).lora.exclude_modules == ("lm_head",)


def test_every_value_has_its_line():
    """Each value of a loaded spec is on the line its source names, and nothing else has a source."""
    spec = load(STARTER)
    lines = STARTER.read_text().splitlines()
    values = dict(_leaves(spec, ""))

    for key, where in spec.sources.items():
        line = lines[where.line - 1]
        assert where.key == key
        if key in values:
            name, value = key.rpartition(".")[2], values[key]
            assert line[where.column - 1 :].startswith(value if name.isdigit() else f"{name}:")
            if not isinstance(value, tuple):
                written = line.partition(f"{name}:")[2].partition(" #")[0].strip() if not name.isdigit() else value
                assert written == value or json.loads(written) == value
    assert len(set(values) & set(spec.sources)) > 40


def _leaves(value, path):
    if is_dataclass(value):
        for field in fields(value):
            if field.name != "sources":
                yield from _leaves(getattr(value, field.name), f"{path}.{field.name}".lstrip("."))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}.{index}")
    elif not isinstance(value, Mapping):
        yield path, value


def test_mapping_is_a_config():
    """A Python mapping gives the same spec as a file; tuples are lists."""
    spec = load_mapping({**SMALLEST, "lora": {"target_modules": ("q_proj", "v_proj"), "rank_pattern": {"q": 4}}})

    assert spec.lora.target_modules == ("q_proj", "v_proj")
    assert spec.lora.rank_pattern == {"q": 4}
    assert set(spec.sources) >= {"lora.target_modules.1", "lora.rank_pattern.q", "model.id", ""}
    assert str(spec.where("lora.r")) == "<python>:1"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "document is a list; allowed: a mapping"),
        ({1: 2}, "key 1 in document; allowed: a string"),
        (
            {**SMALLEST, "lora": {"r": 1j}},
            "lora.r is a complex; allowed: null, bool, int, float, str, or lists and mappings of them",
        ),
        (
            {**SMALLEST, "model": {"id": "\ud800"}},
            "model.id holds the control character U+D800; allowed: printable text",
        ),
        (
            {**SMALLEST, "lora": {"r": "16"}},
            'lora.r is "16"; allowed: an integer from 1 to 65536; write 16 without quotes',
        ),
    ],
    ids=["list", "key", "type", "surrogate", "field"],
)
def test_bad_mapping(document, message):
    """What YAML could not hold is refused, and fields are as strict as in a file."""
    with pytest.raises(ConfigError) as caught:
        load_mapping(document, name="notebook")

    assert str(caught.value) == f"notebook:1:1: {message}"


def test_mapping_inside_itself():
    """A mapping that holds itself is refused by its depth."""
    document = {}
    document["lora"] = document

    with pytest.raises(ConfigError, match="goes beyond 32 levels"):
        load_mapping(document)


def test_spec_is_frozen():
    """Neither sections nor the mappings in them can be changed."""
    spec = load_mapping(SMALLEST)

    with pytest.raises(FrozenInstanceError):
        spec.lora.r = 4
    with pytest.raises(TypeError):
        spec.lora.rank_pattern["q"] = 4
    with pytest.raises(TypeError):
        spec.sources["lora.r"] = spec.sources[""]


def test_local_paths_become_absolute(tmp_path):
    """`model.id` and `data.path` are relative to the config file, and absolute in the spec."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    (tmp_path / "samples.jsonl").write_text("")
    path = tmp_path / "run.yaml"
    path.write_text("model: {id: ./base}\nlora: {}\ndata: {path: samples.jsonl}\n")

    spec = load(path)

    assert spec.model.id == str((tmp_path / "base").resolve())
    assert spec.data.path == str((tmp_path / "samples.jsonl").resolve())


def test_hub_id_that_is_also_a_folder(tmp_path, monkeypatch):
    """A plain `org/name` is a Hub id, whatever lies in the working directory."""
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    assert load_mapping(SMALLEST).model.id == "org/name"


@pytest.mark.parametrize("section", ["lora", "zzz"])
def test_thousands_of_problems(section):
    """A config that is wrong throughout is refused soon, with the first problems only."""
    document = {**SMALLEST, section: {f"unknown_{number}": number for number in range(9000)}, "lore": {}}
    started = perf_counter()

    with pytest.raises(ConfigError) as caught:
        load_mapping(document)

    assert len(caught.value.problems) <= 101
    assert perf_counter() - started < 3


@pytest.mark.parametrize(("key", "known"), [("lora", True), ("intent", True), ("Modle", True), ("foo", False)])
def test_recognises(key, known):
    """A section's name, or nearly one, makes a config native."""
    assert recognises({key: None}) is known


def test_schema_describes_every_key():
    """Editors get a description, and no unknown keys, at every level."""
    generated = schema()

    assert generated["$schema"].endswith("2020-12/schema")
    assert generated["title"] == "vlcheck config"
    assert generated["required"] == ["model"]
    for section in (generated, *generated["$defs"].values()):
        assert section["description"]
        assert section["additionalProperties"] is False
        assert all(entry["description"] for entry in section["properties"].values())


# Defaults that differ from the library on purpose.
INTENTIONAL = {
    "Lora.task_type": ("CAUSAL_LM", None),  # the only task vlcheck audits
}


OWN = frozenset({
    "framework", "framework_version", "kbit_preparation", "logits", "early_stopping_patience", "report_to",
    "zero_optimization", "packing", "padding_free", "activation_offloading", "assistant_only_loss",
    "completion_only_loss", "freeze", "gradient_checkpointing_share",
})  # fmt: skip
"""Fields that transformers' arguments lack: what a training script does around its trainer, DeepSpeed's and TRL's."""


@pytest.mark.parametrize(
    "field", ["packing", "padding_free", "activation_offloading", "assistant_only_loss", "completion_only_loss"]
)
def test_what_is_trls_has_its_name_and_its_default(field):
    from trl import SFTConfig

    assert getattr(SFTConfig, field) is getattr(Training, field)
    assert not getattr(Training, field)


@pytest.mark.parametrize(
    ("training", "objection"),
    [
        ({"fsdp": "full_shard", "zero_optimization": {"stage": 3}}, "fsdp and zero_optimization exclude each other"),
        ({"zero_optimization": {"stage": 2, "offload_param": {"device": "cpu"}}}, "offload_param needs stage 3"),
        ({"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}, "needs a stage from 1 to 3"),
        ({"zero_optimization": {"stage": 4}}, "zero_optimization.stage is 4; allowed: one of 0, 1, 2, 3"),
    ],
)
def test_what_deepspeed_would_refuse_is_refused(training, objection):
    with pytest.raises(ConfigError, match=objection):
        load_mapping({**SMALLEST, "training": training})


@pytest.mark.parametrize("section", [Lora, Quantization, Training])
def test_defaults_are_those_of_the_library(section):
    """A key left out means what the library would do."""
    theirs = _library_defaults(section)
    ours = {
        field.name: field.default if field.default is not MISSING else field.default_factory()
        for field in fields(section)
        if field.name not in OWN
    }

    differing = {
        f"{section.__name__}.{name}": (value, theirs[name]) for name, value in ours.items() if value != theirs[name]
    }

    assert differing == {key: pair for key, pair in INTENTIONAL.items() if key.startswith(f"{section.__name__}.")}


def _library_defaults(section):
    """The library's own object, built with nothing set: some defaults are filled in on construction."""
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig, TrainingArguments

    config = {Lora: LoraConfig, Quantization: BitsAndBytesConfig, Training: TrainingArguments}[section]()
    return {field.name: _plain(getattr(config, field.name)) for field in fields(section) if field.name not in OWN}


def _plain(value):
    value = getattr(value, "value", value)
    return str(value).removeprefix("torch.") if type(value).__module__ == "torch" else value


def test_a_config_error_imports_no_torch(tmp_path):
    """Reading a config, wrong or right, stays clear of the heavy libraries."""
    (tmp_path / "run.yaml").write_text("model: {id: 3}\n")
    program = (
        "import sys\nfrom vlcheck.config.load import load\nfrom vlcheck.spec import ConfigError\n"
        "try: load('run.yaml')\nexcept ConfigError as error: print(error)\n"
        "print(sorted({'torch', 'transformers', 'peft', 'numpy'} & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={"PYTHONPATH": str(Path(vlcheck.__file__).parents[1])},
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stdout.startswith("run.yaml:1:9: model.id is 3")
