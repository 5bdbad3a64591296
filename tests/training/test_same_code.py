"""What is trained is what was audited: the same model, the same collator, through the same libraries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import datasets
import pytest
import torch
from accelerate import Accelerator
from peft import get_peft_model_state_dict
from PIL import Image
from safetensors import safe_open

from tests.training.runs import recipe, small
from vlcheck.engine import train_run
from vlcheck.evidence.resolve import Evidence
from vlcheck.model.modules import ModuleTable, tabulate
from vlcheck.processing.collator import Collator
from vlcheck.spec import RunSpec
from vlcheck.training import loop
from vlcheck.training.rows import read_training_rows
from vlcheck.training.setup import Live


@dataclass(frozen=True)
class Seen:
    """A run of the real command, looked into."""

    spec: RunSpec
    evidence: Evidence
    live: Live
    collator: Any
    accelerator: Any


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> Seen:
    """Two steps of the tiny recipe through what `vlcheck train` calls; what the loop builds is noted, not changed."""
    output = str(tmp_path_factory.mktemp("run"))
    spec = small(output, max_steps=2)
    noted: dict[str, Any] = {}
    real_build, real_train = loop.build, loop.train

    def build(run: RunSpec, config: Any, accelerator: Any, *rest: Any, **named: Any) -> Live:
        noted["accelerator"] = accelerator
        noted["live"] = real_build(run, config, accelerator, *rest, **named)
        return noted["live"]

    def train(*given: Any, **named: Any) -> Any:
        noted["collator"] = named["collator"]
        return real_train(*given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "build", build)
        patch.setattr(loop, "train", train)
        train_run(spec, offline=True, select=("VLC402",))
    return Seen(spec, Evidence(spec, {}, offline=True), **noted)


def test_the_trained_model_is_the_audited_one(seen):
    """Row by row: every module's class, size, number type, adapter, placement and whether it trains."""
    audited: ModuleTable = seen.evidence.call(lambda modules: modules)
    trained = seen.evidence.call(lambda reference, family: tabulate(seen.live.base, reference, family))

    assert len(trained.adapters()) > 20
    assert trained == audited
    assert not any(parameter.is_meta for parameter in seen.live.base.parameters())


def test_what_trains_is_what_the_audit_counted(seen):
    """The optimizer holds the adapters of the audit's table, and nothing else."""
    audited: ModuleTable = seen.evidence.call(lambda modules: modules)
    held = [p for group in seen.live.state.optimizer.param_groups for p in group["params"]]

    assert sum(p.numel() for p in held) == sum(row.adapter_parameters for row in audited.adapters())
    assert {id(p) for p in held} == {id(p) for p in seen.live.parameters}


def test_the_collator_is_the_audited_one(seen):
    """One class, and on rows of the data the same batch: ids, labels, pixels and every other key."""
    candidate, rows = seen.evidence.call(lambda candidate, conversations: (candidate, conversations[:4]))
    assert candidate.ours
    assert type(seen.collator) is type(candidate.call) is Collator

    trained, audited = seen.collator(rows), candidate.call(rows)

    assert trained.keys() == audited.keys() > {"input_ids", "labels", "pixel_values", "mm_token_type_ids"}
    assert all(torch.equal(trained[key], audited[key]) for key in trained)


def test_a_changed_target_would_be_seen(seen):
    """The comparison has power: a run that adapts the language model alone has another table."""
    other = replace(seen.spec, lora=replace(seen.spec.lora, target_modules=r".*language_model\..*_proj"))
    audited = Evidence(other, {}, offline=True).call(lambda modules: modules)
    trained = seen.evidence.call(lambda reference, family: tabulate(seen.live.base, reference, family))

    assert trained != audited


def test_processes_and_files_are_those_of_the_libraries(seen):
    """Accelerate places the run, and safetensors reads the adapter back under the names that PEFT saves."""
    assert type(seen.accelerator) is Accelerator
    with safe_open(f"{seen.spec.training.output_dir}/adapter/adapter_model.safetensors", framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a mapping)
    live = get_peft_model_state_dict(seen.live.model)
    assert tensors.keys() == live.keys()
    assert all(torch.equal(tensors[name], live[name]) for name in tensors)


def test_rows_of_a_data_set_come_from_datasets(tmp_path):
    """What that library saved is what the loop trains on, its class names in place of their numbers."""
    photos = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    held = datasets.Dataset.from_dict({"image": photos, "label": [1, 0]})
    held = held.cast_column("image", datasets.Image()).cast_column("label", datasets.ClassLabel(names=["blue", "red"]))
    datasets.DatasetDict(train=held).save_to_disk(tmp_path)
    data = replace(recipe().data, generated=None, path=str(tmp_path), image_column="image", answer_column="label")

    rows = read_training_rows(replace(recipe(), data=data), offline=True)

    assert rows.broken == ()
    assert [conversation.turns[-1].content for conversation in rows.conversations] == [("red",), ("blue",)]
