"""TRL's config file and command line: `ScriptArguments`, `SFTConfig`, `ModelConfig` and `DatasetMixtureConfig`, flat.

The keys are those of trl 1.16 (trl/scripts/utils.py, trl/trainer/sft_config.py, base_config.py, model_config.py);
releases read for what went: 0.9.6, 0.12.2, 0.14.0, 0.16.1, 0.19.1, 0.21.0, 0.24.0, 0.29.0, 1.0.0, 1.8.0, 1.12.0 and
1.16.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vlcheck.config.foreign.adapters import settle_whole
from vlcheck.config.foreign.draft import Draft
from vlcheck.config.foreign.keys import Fate, Gone, Idle, To, Together, Unjudged, idle, same, together, unjudged
from vlcheck.config.foreign.rows import Rows, put_rows
from vlcheck.config.foreign.transformers import ARGUMENTS, local_or_hub, settle_arguments
from vlcheck.config.foreign.translate import Format, translated
from vlcheck.config.reading.quoting import quoted
from vlcheck.finding import Json
from vlcheck.spec import Location, RunSpec

NAME = "trl"
RECOGNISED_BY = "model_name_or_path beside keys of TRL's SFTConfig, ModelConfig or ScriptArguments"

_SFT = "trl/trainer/sft_config.py"


def _gone(has: str, lacks: str, file: str, instead: str = "", meant: To | Idle | Together | None = None) -> Gone:
    return Gone("trl", lacks, f"{file}: {has} has it, {lacks} has not", instead, meant or Idle())


def _alone(value: Json) -> Json:
    """A list of one name is that name by itself, as `ModelConfig.__post_init__` makes it."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


MODEL_CONFIG: Mapping[str, Fate] = {
    "model_name_or_path": To("model.id"),
    "model_revision": To("model.revision"),
    "attn_implementation": To("model.attn_implementation", otherwise=Unjudged(("memory", "placement"))),
    "lora_r": To("lora.r"),
    "lora_target_modules": To("lora.target_modules", _alone),
    "lora_target_parameters": To("lora.target_parameters"),
    "lora_modules_to_save": To("lora.modules_to_save"),
    "lora_task_type": To("lora.task_type", otherwise=Idle()),
    **same("lora", "lora_alpha lora_dropout use_rslora use_dora"),
    **together(
        "dtype use_peft load_in_4bit load_in_8bit bnb_4bit_quant_type use_bnb_nested_quant bnb_4bit_quant_storage"
    ),
    "torch_dtype": _gone("0.24.0", "0.29.0", "trl/trainer/model_config.py", "dtype", Together()),
}
SFT_CONFIG: Mapping[str, Fate] = {
    **ARGUMENTS,
    "max_length": To("data.max_length"),
    **same("training", "packing padding_free activation_offloading assistant_only_loss completion_only_loss"),
    "loss_type": Unjudged(("memory",), (None, "nll", "chunked_nll")),
    **together("model_init_kwargs"),
    **unjudged("trust_remote_code", "memory", "placement"),
    **unjudged("chat_template_path eos_token pad_token", "labels"),
    **unjudged("truncation_mode", "labels", harmless=("keep_start",)),
    **unjudged("pad_to_multiple_of", "memory", harmless=(None, "auto")),
    **unjudged("eval_packing", "memory"),
    **idle("router_aux_loss_coef dataset_text_field dataset_kwargs dataset_num_proc shuffle_dataset packing_strategy"),
    "max_seq_length": _gone("0.19.1", "0.21.0", _SFT, "max_length", To("data.max_length")),
    "use_liger": _gone("0.16.1", "0.19.1", _SFT, "use_liger_kernel", Together()),
    "dataset_batch_size": _gone("0.16.1", "0.19.1", _SFT),
    "num_of_sequences": _gone("0.16.1", "0.19.1", _SFT),
    "chars_per_token": _gone("0.16.1", "0.19.1", _SFT),
}
KEYS: Mapping[str, Fate] = {
    **MODEL_CONFIG,
    **SFT_CONFIG,
    # what `trl sft` hands on to accelerate's launcher, trl/cli/commands/training.py
    "num_processes": To("hardware.count"),
    **together("accelerate_config"),
    **unjudged("num_machines", "memory", harmless=(None, 1)),
    # ScriptArguments, DatasetMixtureConfig, the parser's own
    **together("dataset_name dataset_train_split dataset_test_split datasets"),
    **unjudged("dataset_config", "data"),
    **unjudged("test_split_size", "data"),
    **idle("dataset_streaming streaming ignore_bias_buffers env"),
    "gradient_checkpointing_use_reentrant": _gone(
        "0.24.0",
        "0.29.0",
        "trl/scripts/utils.py",
        "gradient_checkpointing_kwargs: {use_reentrant: false}",
        To("training.gradient_checkpointing_kwargs.use_reentrant"),
    ),
}


def recognises(document: Mapping[str, Json]) -> bool:
    """Tell whether the keys are TRL's, and none is LLaMA-Factory's, which names its model alike."""
    return (
        "model_name_or_path" in document
        and sum(key in KEYS for key in document) > 1
        and not {"stage", "finetuning_type", "cutoff_len", "template"} & set(document)
    )


def to_spec(
    document: Mapping[str, Json], sources: Mapping[str, Location], folder: Path, *, stated: str | None = None
) -> RunSpec:
    """Read TRL's config.

    Args:
        document: what the file holds, as plain values.
        sources: dotted path to the place that set it.
        folder: what relative paths in the document are relative to.
        stated: version of TRL; by default the installed one.

    Raises:
        ConfigError: with every problem of the document, sorted by place.
    """
    return translated(FORMAT, document, sources, folder, stated=stated)


def settle(draft: Draft) -> None:
    """What TRL's keys mean together: the model's type, adapters, quantisation, splits."""
    _shipped(draft)
    settle_arguments(draft)
    _model(draft)
    _adapters(draft)
    _quantization(draft)
    _data(draft)


def _shipped(draft: Draft) -> None:
    """One of the launcher's configs that trl brings, by its name."""
    name = draft.value("accelerate_config")
    if not isinstance(name, str) or name not in _SHIPPED:
        return
    processes, path, value = _SHIPPED[name]
    draft.given["accelerate_config"] = None
    if draft.value("num_processes") is None:
        draft.put("hardware.count", processes, "accelerate_config")
    if path:
        draft.put(path, value, "accelerate_config")


_SHIPPED: Mapping[str, tuple[int, str, Json]] = {
    "single_gpu": (1, "", None),
    "multi_gpu": (8, "", None),
    **{f"zero{stage}": (8, "training.zero_optimization.stage", stage) for stage in (1, 2, 3)},
    **{f"fsdp{version}": (8, "training.fsdp", "full_shard auto_wrap") for version in (1, 2)},
}
"""trl/accelerate_configs/: processes, and what the GPUs divide."""


def _model(draft: Draft) -> None:
    if draft.value("model_name_or_path") is None:
        draft.refuse("", "names no model; required: model_name_or_path")
        return
    draft.put("model.id", local_or_hub(draft.value("model_name_or_path"), draft.folder), "model_name_or_path")
    for key in ("torch_dtype", "dtype"):
        settle_dtype(draft, key)
    if draft.mapping("model_init_kwargs"):  # they outrank the arguments, trl/scripts/sft.py
        draft.read(LOADING, prefix="model_init_kwargs.")
        for key in ("model_init_kwargs.torch_dtype", "model_init_kwargs.dtype"):
            settle_dtype(draft, key)


LOADING: Mapping[str, Fate] = {
    "revision": To("model.revision"),
    "attn_implementation": KEYS["attn_implementation"],
    **together("dtype torch_dtype"),
    **idle("device_map low_cpu_mem_usage use_cache cache_dir token local_files_only"),
    **unjudged("trust_remote_code", "memory", "placement"),
}


def settle_dtype(draft: Draft, key: str) -> None:
    """The model's type; the checkpoint's own is judged as bfloat16, and said."""
    value = draft.value(key)
    if value is None:
        return
    if value == "auto":
        draft.assumed.append(f"{key}: auto is the checkpoint's own type, and was judged as bfloat16")
    draft.put("model.dtype", "bfloat16" if value == "auto" else value, key)


def _adapters(draft: Draft) -> None:
    if draft.on("use_peft"):
        draft.document.setdefault("lora", {})
        draft.sources["lora"] = draft.place("use_peft")
        alone = draft.value("lora_target_modules")
        if isinstance(alone, list) and len(alone) == 1 and alone[0] != "all-linear":
            draft.assumed.append(
                f"lora_target_modules: trl makes {quoted(alone[0])} of a list of one; peft holds it against whole paths"
            )
        return
    settle_whole(draft, "use_peft")
    if lost := [key for key in draft.given if key.startswith("lora_")]:
        message = "trl passes over it without use_peft, and every weight is trained"
        draft.doubt(lost[0], "placement", "memory", message=message)


def _quantization(draft: Draft) -> None:
    bits = [key for key in ("load_in_4bit", "load_in_8bit") if draft.on(key)]
    if not bits:
        return
    draft.sources["quantization"] = draft.place(bits[0])
    for key in bits:
        draft.put(f"quantization.{key}", True, key)
    if bits == ["load_in_4bit"]:
        for key, field in BITS.items():
            if draft.value(key) is not None:
                draft.put(f"quantization.{field}", draft.value(key), key)


BITS = {
    "bnb_4bit_quant_type": "bnb_4bit_quant_type",
    "use_bnb_nested_quant": "bnb_4bit_use_double_quant",
    "bnb_4bit_quant_storage": "bnb_4bit_quant_storage",
}


def _data(draft: Draft) -> None:
    if draft.on("completion_only_loss"):  # rows of prompt and completion: earlier answers are part of the prompt
        draft.put("intent.answers", "last", "completion_only_loss")
    mixture = draft.value("datasets")
    if mixture and isinstance(mixture, list) and all(isinstance(entry, dict) for entry in mixture):
        entries = [rows for number, entry in enumerate(mixture) for rows in _entry(draft, entry, f"datasets.{number}")]
        put_rows(draft, entries, "datasets")
    elif mixture:
        draft.doubt("datasets", "data")
    else:
        _source(draft, draft.value("dataset_name"), "dataset_name")
        split = draft.value("dataset_train_split")
        if split is not None:
            draft.put("data.train_split", split, "dataset_train_split")
        if isinstance(split, str) and "[" in split:  # trl/scripts/sft.py:109 looks it up in a DatasetDict
            message = f"{quoted(split)} is no name of a split, and trl slices none; `datasets: [{{path, split}}]` does"
            draft.doubt("dataset_train_split", "data", message=message)
    if draft.value("eval_strategy") not in (None, False, "no"):
        split = draft.value("dataset_test_split")
        draft.put("data.eval_split", "test" if split is None else split, "dataset_test_split")


def _entry(draft: Draft, entry: Any, key: str) -> Iterator[Rows]:
    """One data set of a mixture, trl/scripts/utils.py: DatasetConfig."""
    for name, value in entry.items():
        if name not in ("path", "split") and value is not None:
            draft.doubt(f"{key}.{name}", "data")
    if isinstance(entry.get("path"), str) and entry["path"]:
        yield Rows(entry["path"], f"{key}.path", entry.get("split"), f"{key}.split")
    else:
        draft.doubt(f"{key}.path", "data")


def _source(draft: Draft, value: Json, key: str) -> None:
    if value is not None:
        found = local_or_hub(value, draft.folder)
        local = isinstance(found, str) and found.startswith((".", "/", "~"))
        draft.put("data.path" if local else "data.dataset", found, key)


FORMAT = Format(name=NAME, framework="trl", packages=("trl", "transformers"), keys=KEYS, settle=settle)
