"""transformers' `TrainingArguments` as JSON, PEFT's adapter_config.json, and the folder that a finished run leaves.

The keys of PEFT are those of 0.21 (peft/tuners/lora/config.py, peft/config.py).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

from vlcheck.config.foreign.draft import Draft
from vlcheck.config.foreign.keys import Fate, Idle, To, Unjudged, idle, same, together, unjudged
from vlcheck.config.foreign.transformers import ARGUMENTS, local_or_hub, settle_arguments
from vlcheck.config.foreign.translate import Format, translated
from vlcheck.config.reading.quoting import quoted
from vlcheck.config.reading.yaml_lines import read_yaml
from vlcheck.finding import Json
from vlcheck.spec import ConfigError, Location, Problem, RunSpec

NAME = "transformers"
RECOGNISED_BY = "keys of TrainingArguments and no model, or peft_type"

ADAPTER, STATE = "adapter_config", "trainer_state"
"""Files beside the arguments, by their names without .json; their keys are told with the name before them."""
MOST_FILES = 200

ADAPTER_KEYS: Mapping[str, Fate] = {
    **same(
        "lora",
        "r lora_alpha lora_dropout target_modules exclude_modules modules_to_save bias use_rslora use_dora "
        "layers_to_transform layers_pattern rank_pattern alpha_pattern target_parameters ensure_weight_tying",
    ),
    "task_type": To("lora.task_type", otherwise=Idle()),
    "revision": To("model.revision"),
    **together("base_model_name_or_path peft_type"),
    "init_lora_weights": Unjudged(("placement",), (None, True, False, "gaussian", "orthogonal")),
    **unjudged(
        "layer_replication trainable_token_indices alora_invocation_tokens use_qalora use_bdlora arrow_config "
        "lora_bias megatron_config velora_config monteclora_config kasa_config",
        "memory",
        "placement",
    ),
    **idle(
        "auto_mapping peft_version inference_mode fan_in_fan_out megatron_core loftq_config eva_config corda_config "
        "lora_ga_config qalora_group_size runtime_config"
    ),
}
FORMER_KEYS: Mapping[str, Fate] = idle("enable_lora merge_weights")
"""Keys of PEFT 0.2, which later releases pass over."""
KEYS: Mapping[str, Fate] = {**ARGUMENTS, **together(f"{ADAPTER} {STATE}"), **idle("_n_gpu")}
_STATE: Mapping[str, str] = {
    "train_batch_size": "per_device_train_batch_size",
    "num_train_epochs": "num_train_epochs",
    "max_steps": "max_steps",
    "logging_steps": "logging_steps",
    "save_steps": "save_steps",
}
"""What trainer_state.json still says of a run (transformers/trainer_callback.py, TrainerState)."""


def recognises(document: Mapping[str, Json]) -> bool:
    """Tell whether the keys are those of an adapter, or arguments without a model."""
    names = {"model_name_or_path", "base_model", "model"} & set(document)
    return "peft_type" in document or (not names and sum(key in ARGUMENTS for key in document) > 2)


def to_spec(
    document: Mapping[str, Json], sources: Mapping[str, Location], folder: Path, *, stated: str | None = None
) -> RunSpec:
    """Read arguments with the adapter's settings beside them, or the settings with the arguments beside them.

    Args:
        document: what the file holds, as plain values.
        sources: dotted path to the place that set it.
        folder: of the file, where the others are looked for; what relative paths are relative to.
        stated: version of transformers; by default the installed one.

    Raises:
        ConfigError: with every problem of the files, sorted by place.
    """
    arguments, places, finished = dict(document), dict(sources), False
    if "peft_type" in document:
        arguments, places = _arguments_beside(folder)
        places[""] = sources[""]
        _hold(ADAPTER, document, sources, arguments, places)
        finished = True
    elif (file := folder / f"{ADAPTER}.json").is_file():
        _hold(ADAPTER, *read_yaml(file), arguments, places)
    else:
        message = f"holds training arguments alone, and names no model; put {ADAPTER}.json beside it (PEFT writes it)"
        raise ConfigError(Problem(sources[""], message))
    if (file := folder / f"{STATE}.json").is_file() and file.stat().st_size < 2**18:
        _hold(STATE, *read_yaml(file), arguments, places)
    spec = translated(FORMAT, arguments, places, folder, stated=stated)
    if finished and spec.origin is not None:  # a record, which no version has to take once more
        return replace(spec, origin=replace(spec.origin, outdated=()))
    return spec


def read_folder(folder: str | os.PathLike[str], *, stated: str | None = None) -> RunSpec:
    """Read the folder of a finished adapter or of a checkpoint.

    Raises:
        ConfigError: if it holds none; the message says what it holds instead.
    """
    home, where = Path(folder), Location(os.fsdecode(folder))
    if (home / f"{ADAPTER}.json").is_file():
        document, sources = read_yaml(home / f"{ADAPTER}.json")
        return to_spec({"peft_type": None, **document}, sources, home, stated=stated)
    inside = sorted(entry.name for entry in islice(home.iterdir(), MOST_FILES) if (entry / f"{ADAPTER}.json").is_file())
    if inside:
        message = f"is a folder with adapters in it; name one of them: {', '.join(inside[:4])}"
    elif (home / "config.json").is_file():
        message = "is a model's folder; name the config of a run that trains it (`vlcheck init`)"
    else:
        message = f"is a directory; allowed: a config file, or a folder with {ADAPTER}.json"
    raise ConfigError(Problem(where, message))


def _hold(
    key: str,
    document: Mapping[str, Json],
    sources: Mapping[str, Location],
    given: dict[str, Json],
    places: dict[str, Location],
) -> None:
    given[key] = dict(document)
    places |= {f"{key}.{path}" if path else key: where for path, where in sources.items()}


def _arguments_beside(folder: Path) -> tuple[dict[str, Json], dict[str, Location]]:
    """The first JSON file of a folder that holds arguments; none where there is none."""
    for file in sorted(islice(folder.glob("*.json"), MOST_FILES)):
        if file.stem in (ADAPTER, STATE) or not file.is_file() or file.stat().st_size >= 2**16:
            continue
        try:
            document, sources = read_yaml(file)
        except ConfigError:
            continue  # not the file that was named, and no arguments
        if recognises(document) and "peft_type" not in document:
            return dict(document), dict(sources)
    return {}, {}


def settle(draft: Draft) -> None:
    """What the files mean together: the base, its adapter, and what none of them tells."""
    settle_arguments(draft)
    draft.read({**ADAPTER_KEYS, **FORMER_KEYS}, prefix=f"{ADAPTER}.", title="PEFT")
    kind = draft.value(f"{ADAPTER}.peft_type")
    if kind != "LORA":
        draft.refuse(f"{ADAPTER}.peft_type", f"peft_type is {quoted(kind)}; vlcheck judges LORA")
    draft.document.setdefault("lora", {})
    draft.sources["lora"] = draft.place(ADAPTER)
    base = draft.value(f"{ADAPTER}.base_model_name_or_path")
    if base is None:
        draft.refuse(ADAPTER, f"{ADAPTER}.json names no base; required: base_model_name_or_path")
    else:
        draft.put("model.id", local_or_hub(base, draft.folder), f"{ADAPTER}.base_model_name_or_path")
    if not any(key in draft.given for key in ARGUMENTS):
        _from_state(draft)
    draft.doubt(
        ADAPTER, "memory", message="no file here tells whether the base was quantised, and it was judged as bfloat16"
    )
    draft.doubt(ADAPTER, "labels", "data", message="no file here tells which data the run took, or how it was labelled")


def _from_state(draft: Draft) -> None:
    for key, field in _STATE.items():
        value = draft.value(f"{STATE}.{key}")
        if value:
            draft.put(f"training.{field}", value, f"{STATE}.{key}")
    message = "no training arguments lie here as JSON, and a pickle (training_args.bin) is never opened"
    draft.doubt(ADAPTER, "memory", message=message)


FORMAT = Format(name=NAME, framework="transformers", packages=("transformers",), keys=KEYS, settle=settle)
