"""The table of frameworks: what is installed agrees with its row, and a config's silence takes the row's value."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
import transformers
import trl
from transformers import TrainingArguments
from trl import ModelConfig, SFTConfig, SFTTrainer

from tests import tiny
from vlcheck.config.defaults import framework_of, settled
from vlcheck.config.frameworks import FRAMEWORKS, TRANSFORMERS, TRL
from vlcheck.config.load import load_mapping
from vlcheck.config.validation.allowed import at
from vlcheck.evidence.resolve import Evidence
from vlcheck.spec import CheckpointingKwargs, RunSpec

PACKAGES = Path(transformers.__file__).parents[1]
PLACE = re.compile(r"^((?:transformers|trl)/\S+?\.py)(?::(\d+))?")
NOT_OF_ARGUMENTS = {"training.logits", "data.max_length", "training.gradient_checkpointing_kwargs"}


def run(**sections) -> RunSpec:
    """A config that says only this."""
    return load_mapping({"model": {"id": "org/name"}, "lora": {}, **sections})


def defaults_of(arguments: type) -> dict[str, object]:
    """What a dataclass of arguments does by itself, after it has settled what it leaves open."""
    made = arguments(output_dir="out", use_cpu=True, report_to=[])
    return {field.name: getattr(made, field.name) for field in fields(arguments) if field.init}


@pytest.mark.parametrize(("row", "arguments"), [(TRANSFORMERS, TrainingArguments), (TRL, SFTConfig)])
def test_row_agrees_with_the_installed_arguments(row, arguments):
    """Each value of `TrainingArguments` and `SFTConfig` in the row is the installed version's own."""
    found = defaults_of(arguments)
    for path, fact in row.defaults.items():
        if path not in NOT_OF_ARGUMENTS:
            assert getattr(found[path.partition(".")[2]], "value", found[path.partition(".")[2]]) == fact.value, path


@pytest.mark.parametrize(("row", "module"), [(TRANSFORMERS, transformers), (TRL, trl)])
def test_row_is_of_the_installed_version(row, module):
    """A new minor version asks for a look at the row."""
    assert module.__version__.startswith(f"{row.version}.")


def test_trl_beside_its_arguments():
    """Length limit, type of a model that is named, columns and the loss of its trainer."""
    assert SFTConfig.__dataclass_fields__["max_length"].default == TRL.defaults["data.max_length"].value
    assert TRL.depends["model.dtype"].value.startswith(ModelConfig.__dataclass_fields__["dtype"].default)
    assert 'kwargs.get("dtype", "float32")' in inspect.getsource(trl.trainer.utils.create_model_from_path)
    columns = ", ".join(f'"{column}"' for column in TRL.columns.value)
    assert f"[{columns}]" in inspect.getsource(SFTTrainer._set_signature_columns_if_needed)
    assert "outputs = model(**inputs, fused_lm_head=True)" in inspect.getsource(SFTTrainer.compute_loss)
    assert trl.kernels.chunked_logprob.TOKEN_CHUNK_SIZE == 4096
    module, _, name = TRL.collator.value.partition(":")
    assert name in inspect.getsource(SFTTrainer.__init__)
    assert hasattr(__import__(module, fromlist=[name]), name)


def test_transformers_checkpoints_without_reentry():
    """Told nothing, a model is checkpointed with `use_reentrant=False`, which both rows say."""
    values = tiny.gemma4()
    model = transformers.AutoModelForImageTextToText.from_config(transformers.AutoConfig.for_model(**values))
    model.gradient_checkpointing_enable()
    (said,) = {
        module._gradient_checkpointing_func.keywords["use_reentrant"]
        for module in model.modules()
        if getattr(module, "gradient_checkpointing", False)
    }
    for row in (TRANSFORMERS, TRL):
        assert row.defaults["training.gradient_checkpointing_kwargs"].value.use_reentrant is said


@pytest.mark.parametrize("row", FRAMEWORKS, ids=lambda row: row.title)
def test_every_value_has_its_place(row):
    """Each fact names a file; those of installed packages exist, with as many lines and what they are cited for."""
    facts = [row.collator, row.supervises, row.too_long, row.columns, *row.depends.values()]
    facts += [*row.defaults.values(), *row.file_defaults.values()]
    assert all(".py" in fact.source or "/" in fact.source or ":" in fact.source for fact in facts)
    for path, fact in [*row.defaults.items(), *row.file_defaults.items()]:
        assert at(path.split(".")) is not None, path
        if cited := PLACE.match(fact.source):
            lines = (PACKAGES / cited[1]).read_text("utf-8").splitlines()
            number = int(cited[2] or 1)
            assert number <= len(lines), fact.source
            if cited[1].endswith(("training_args.py", "sft_config.py", "base_config.py")):
                assert path.rpartition(".")[2] in " ".join(lines[number - 1 : number + 1]), (path, fact.source)


def test_silence_takes_the_frameworks_default():
    """What the config does not say is filled in and marked; what it says stays, null included."""
    spec = run(data={"max_length": None}, training={"framework": "trl", "learning_rate": 1e-3})

    assert (spec.training.logits, spec.training.bf16) == ("chunked", True)
    assert spec.data.max_length is None
    assert spec.training.learning_rate == 1e-3
    assert spec.where("training.logits").default == "default of trl 1.16"
    assert str(spec.where("training.logits")) == "<python>:1 (default of trl 1.16)"
    assert spec.where("training.learning_rate").default == ""
    assert run(training={"framework": "trl"}).data.max_length == 1024


def test_a_default_gives_way_to_what_excludes_it():
    """`fp16: true` leaves bf16 off, checkpointing that is off has no kwargs, and a full-precision base no 4 bits."""
    spec = run(training={"framework": "trl", "fp16": True, "gradient_checkpointing": False})

    assert not spec.training.bf16
    assert spec.training.gradient_checkpointing_kwargs is None
    assert run(training={"framework": "ms-swift"}).quantization is None
    assert run(training={"framework": "unsloth"}).quantization.bnb_4bit_quant_type == "nf4"


def test_a_default_may_follow_the_run():
    """LLaMA-Factory's alpha is twice the rank; ms-swift fills an effective batch of 16, and re-enters on one GPU."""
    assert run(lora={"r": 32}, training={"framework": "llamafactory"}).lora.lora_alpha == 64
    two = run(hardware={"count": 2}, training={"framework": "ms-swift"})
    assert two.training.gradient_accumulation_steps == 8
    assert two.training.gradient_checkpointing_kwargs == CheckpointingKwargs(use_reentrant=False)


@pytest.mark.parametrize("name", ["vlcheck", "other", None])
def test_nothing_is_filled_in_where_no_row_is(name):
    """Our own loop, an unknown one and none named leave the run as it was written."""
    spec = run(training={"framework": name} if name else {})

    assert framework_of(spec) is None
    assert settled(spec) == spec == run() or name
    assert not any(where.default for where in spec.sources.values())


def test_what_depends_is_told_and_not_filled_in():
    """A default that the config alone does not settle stays out of the run; the report's reader is told."""
    spec = run(training={"framework": "trl"})
    told = Evidence(spec, {}).remarks()

    assert spec.model.dtype == "bfloat16"
    assert any("model.dtype is float32 where the model is given by name" in remark for remark in told)
    written = run(model={"id": "org/name", "dtype": "bfloat16"}, training={"framework": "trl"})
    assert not any("model.dtype" in remark for remark in Evidence(written, {}).remarks())
    frozen = Evidence(run(training={"framework": "ms-swift"}), {}).remarks()
    assert any("ms-swift 4.6 gives no adapter to vision tower, projector, audio tower" in told for told in frozen)


def test_version_chooses_the_row():
    """A version that no row has is judged by the known one, and the mark says so."""
    known = run(training={"framework": "trl", "framework_version": "1.16.0"})
    older = run(training={"framework": "trl", "framework_version": "0.24.0"})
    other = run(training={"framework": "trl", "framework_version": "0.29"})

    assert known.where("training.logits").default == "default of trl 1.16"
    assert (older.training.logits, known.training.logits) == ("all", "chunked")
    assert (older.training.reentrant, known.training.reentrant) == (True, False)
    assert other.where("training.logits").default == (
        "default of trl 0.24, the version that is known; the run's is 0.29"
    )


def test_vlchecks_own_loop_has_no_chunked_logits():
    """What its loop cannot do is refused, not passed over."""
    with pytest.raises(Exception, match="logits: chunked is not vlcheck's own loop"):
        run(training={"framework": "vlcheck", "logits": "chunked"})
    assert replace(run().training, logits="fused").logits == "fused"
