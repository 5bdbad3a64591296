"""What the calls of a script mean together: the model's type, adapters, quantisation, checkpointing, rows, collator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vlcheck.config.foreign.adapters import settle_whole
from vlcheck.config.foreign.draft import Draft, numbers
from vlcheck.config.foreign.keys import Fate
from vlcheck.config.foreign.pixels import settle_pixels
from vlcheck.config.foreign.scripts.tables import (
    ADAPTER,
    LOOP,
    MODEL,
    PARTS,
    PROCESSOR,
    QUANTIZATION,
    TRAINER_OF,
    UNSLOTH_ADAPTER,
    UNSLOTH_MODEL,
)
from vlcheck.config.foreign.scripts.values import line_of
from vlcheck.config.foreign.transformers import local_or_hub, settle_arguments
from vlcheck.config.foreign.trl import settle_dtype
from vlcheck.config.reading.quoting import quoted
from vlcheck.finding import Json
from vlcheck.spec import Framework

IDS = ("from_pretrained.pretrained_model_name_or_path", "from_pretrained.model_name", "trainer.model")
"""Keys that name the model."""
_KBIT = "prepare_model_for_kbit_training"
_ENABLE = "gradient_checkpointing_enable"
_FILL = "--set {path}=... fills it in"


def settle(draft: Draft, framework: Framework, unsure: Mapping[str, str], typed: frozenset[str]) -> None:
    """Read a script's calls.

    Args:
        unsure: arguments that only a run would tell, and what stands there.
        typed: dotted paths that the command line sets.
    """
    settle_arguments(draft)
    for key, table in {"trainer": TRAINER_OF[framework], **LOOP}.items():
        if draft.value(key) is not None:
            draft.read({**table, "called": _TOGETHER}, prefix=f"{key}.")
    _model(draft, framework, unsure, typed)
    _quantization(draft)
    if draft.on("from_pretrained.full_finetuning"):
        _whole(draft)
    else:
        _adapters(draft, unsure, typed)
    if framework == "other":
        _loop(draft)
    _checkpointing(draft, framework)
    _attached_twice(draft)
    _parts(draft)
    _processor(draft)


_TOGETHER: Fate = LOOP["optimizer"]["params"]


def _model(draft: Draft, framework: Framework, unsure: Mapping[str, str], typed: frozenset[str]) -> None:
    if draft.value("from_pretrained") is not None:
        draft.read(UNSLOTH_MODEL if framework == "unsloth" else MODEL, prefix="from_pretrained.")
    for key in IDS:
        if isinstance(draft.value(key), str):
            draft.put("model.id", local_or_hub(draft.value(key), draft.folder), key)
    if "id" not in draft.document.setdefault("model", {}) and "model.id" not in typed:
        key = next((key for key in IDS if key in unsure), "from_pretrained")
        told = f"the model is {unsure[key]}, known only when the script runs" if key in unsure else "names no model"
        draft.refuse(key, f"{told}; {_FILL.format(path='model.id')}")
        return
    keys = [f"from_pretrained.{name}" for name in ("torch_dtype", "dtype")]
    for key in keys:
        settle_dtype(draft, key)
    if "dtype" not in draft.document["model"] and "model.dtype" not in typed:
        _own_dtype(draft, framework, given=any(key in unsure for key in keys))


def _own_dtype(draft: Draft, framework: Framework, *, given: bool) -> None:
    """The type of a model that is loaded without one."""
    if given or framework == "unsloth":
        if not given:
            draft.assumed.append("from_pretrained: no dtype, so unsloth takes bfloat16 where the card has it")
        return
    if draft.value("trainer.model") and framework == "trl":  # trl/trainer/utils.py:1332
        draft.put("model.dtype", "float32", "trainer.model")
        draft.assumed.append("SFTTrainer loads a model that it is given by name in float32, where no dtype is given")
        return
    if (known := numbers(draft.versions.get("transformers", ""))) and known < (5,):
        quantised = draft.value("BitsAndBytesConfig") is not None
        name = "float16" if quantised else "float32"  # transformers/quantizers/quantizer_bnb_4bit.py:244 of 4.57.6
        draft.put("model.dtype", name, "from_pretrained")
        draft.assumed.append(
            f"from_pretrained: no dtype, so transformers {draft.versions['transformers']} takes {name}"
        )
        return
    draft.assumed.append("from_pretrained: no dtype, so it is the checkpoint's own, which was judged as bfloat16")


def _quantization(draft: Draft) -> None:
    holder = "BitsAndBytesConfig" if draft.value("BitsAndBytesConfig") is not None else "from_pretrained"
    bits = [key for key in ("load_in_4bit", "load_in_8bit") if draft.on(f"{holder}.{key}")]
    if holder == "BitsAndBytesConfig":
        if bits == ["load_in_8bit"]:
            draft.document.setdefault("quantization", {})
        draft.read(QUANTIZATION, prefix="BitsAndBytesConfig.")
    told_off = any(draft.value(f"{holder}.{key}") is False for key in ("load_in_4bit", "load_in_16bit"))
    if bits:
        draft.sources["quantization"] = draft.place(f"{holder}.{bits[0]}")
        for key in bits:
            draft.put(f"quantization.{key}", True, f"{holder}.{key}")
    elif told_off or draft.on("from_pretrained.load_in_16bit"):
        draft.document.pop("quantization", None)
        key = f"{holder}.load_in_4bit"
        draft.sources["quantization"] = draft.place(key if key in draft.places else holder)


def _adapters(draft: Draft, unsure: Mapping[str, str], typed: frozenset[str]) -> None:
    key = "get_peft_model" if draft.value("get_peft_model") is not None else "LoraConfig"
    if draft.value(key) is not None:
        draft.read(UNSLOTH_ADAPTER if key == "get_peft_model" else ADAPTER, prefix=f"{key}.")
        draft.document.setdefault("lora", {})
        draft.sources["lora"] = draft.place(key)
        targets = f"{key}.target_modules"
        if f"{key}.**" in unsure and "target_modules" not in draft.document["lora"]:
            targets = f"{key}.**"
        if targets in unsure and "lora.target_modules" not in typed:  # nothing of where adapters sit is known without
            told = f"target_modules is {unsure[targets]}, known only when the script runs"
            draft.refuse(targets, f"{told}; {_FILL.format(path='lora.target_modules')}")
    elif any(path.startswith("lora.") for path in typed):
        draft.document.setdefault("lora", {})
    elif "LoraConfig" in unsure:
        told = f"the adapters are {unsure['LoraConfig']}, known only when the script runs"
        draft.refuse("LoraConfig", f"{told}; --set lora.r=... and its neighbours fill them in")
    elif draft.value("other_adapter") is not None:
        draft.refuse("other_adapter", f"adapters are {draft.value('other_adapter')}; vlcheck judges peft.LoraConfig")
    else:
        settle_whole(draft, "")
        draft.assumed.append("no adapter is attached, so every weight was judged as trained")
    if key == "get_peft_model":
        frozen: list[Json] = []
        for switch, parts in (("vision", ["vision", "projector"]), ("language", ["language"])):
            if draft.value(f"get_peft_model.finetune_{switch}_layers") is False:
                frozen += parts
        switches = [name for name in ("vision", "language") if f"get_peft_model.finetune_{name}_layers" in draft.places]
        if switches:
            draft.put("training.freeze", frozen, f"get_peft_model.finetune_{switches[0]}_layers")


def _whole(draft: Draft) -> None:
    """Unsloth's full fine-tune: its `get_peft_model` returns the model as it is."""
    if draft.value("get_peft_model") is not None:
        draft.read(UNSLOTH_ADAPTER, prefix="get_peft_model.")
    settle_whole(draft, "from_pretrained.full_finetuning")


def _checkpointing(draft: Draft, framework: Framework) -> None:
    """Checkpointing that the script switches on itself; a trainer's own arguments outrank it where they do too."""
    kbit = draft.value(_KBIT) is not None
    if kbit:
        draft.put("training.kbit_preparation", True, _KBIT)
    by = _ENABLE if draft.value(_ENABLE) is not None else _KBIT if kbit and _kbit_enables(draft) else ""
    unsloth = draft.value("from_pretrained.use_gradient_checkpointing")
    switch = "from_pretrained.use_gradient_checkpointing"
    if draft.value("get_peft_model.use_gradient_checkpointing") is not None:
        switch = "get_peft_model.use_gradient_checkpointing"
        unsloth = draft.value(switch)
    if framework == "unsloth" and unsloth is not None:
        draft.put("training.gradient_checkpointing", unsloth not in (False, "False", "none"), switch)
    told = draft.document.get("training", {}).get("gradient_checkpointing")
    trainers_own = told if told is not None else framework == "trl"
    if not by or trainers_own or framework == "unsloth":
        return
    draft.put("training.gradient_checkpointing", True, by)
    kwargs = f"{by}.gradient_checkpointing_kwargs"
    reentrant = draft.value(f"{kwargs}.use_reentrant")
    if reentrant is not None:
        draft.put("training.gradient_checkpointing_kwargs.use_reentrant", reentrant, f"{kwargs}.use_reentrant")


def _kbit_enables(draft: Draft) -> bool:
    """Peft's preparation switches checkpointing on, of a quantised model, unless told otherwise; utils/other.py."""
    return draft.value(f"{_KBIT}.use_gradient_checkpointing") is not False and "quantization" in draft.document


def _loop(draft: Draft) -> None:
    """What a loop without a trainer does where nothing says otherwise."""
    _by_default(draft, "training.logits", "all", "the model's own loss, transformers/loss/loss_utils.py:61")
    if "per_device_train_batch_size" not in draft.document["training"]:
        _by_default(draft, "training.per_device_train_batch_size", 1, "DataLoader of torch")
    _by_default(draft, "training.remove_unused_columns", False, "a loop that drops no column")
    if isinstance(draft.value("optimizer.called"), str):
        draft.put("training.optim", draft.value("optimizer.called"), "optimizer")
    if isinstance(draft.value("epochs"), int):
        draft.put("training.num_train_epochs", draft.value("epochs"), "epochs")
    mixed, cast = draft.value("Accelerator.mixed_precision"), draft.value("autocast.dtype")
    if mixed in ("bf16", "fp16"):
        draft.put(f"training.{mixed}", True, "Accelerator.mixed_precision")
    elif cast in ("bfloat16", "float16"):
        draft.put("training.bf16" if cast == "bfloat16" else "training.fp16", True, "autocast.dtype")
    if isinstance(draft.value("accumulation"), int):
        draft.put("training.gradient_accumulation_steps", draft.value("accumulation"), "accumulation")
    if "max_grad_norm" not in draft.document["training"]:
        _by_default(draft, "training.max_grad_norm", 0.0, "a loop that clips nothing")


def _by_default(draft: Draft, path: str, value: Json, whose: str) -> None:
    draft.put(path, value, "")
    draft.sources[path] = replace(draft.place(""), key=path, default=f"default of {whose}")


def _attached_twice(draft: Draft) -> None:
    """Adapters that are attached to a model that has some."""
    keys = [f"adapters.{number}" for number in draft.mapping("adapters") or {}]
    if len(keys) > 1:
        lines = " and ".join(line_of(draft.place(key)) for key in keys)
        message = f"adapters are attached {len(keys)} times, by {lines}; they were judged as attached once"
        draft.doubt(keys[1], "placement", "memory", message=message)


def _parts(draft: Draft) -> None:
    """Parts that the script freezes: it means to train none of them, and without adapters trains none."""
    if "lora" not in draft.document:
        held = draft.mapping("frozen") or {}
        frozen: list[Json] = [part for part in held if part in {*PARTS.values()}]
        if frozen:
            draft.put("training.freeze", frozen, "frozen")
    for section in ("frozen", "frozen_adapters"):
        held = draft.mapping(section) or {}
        for part in [part for part in held if part in {*PARTS.values()}]:
            draft.put(f"intent.{part}", "freeze", f"{section}.{part}")
    for part in draft.mapping("frozen_adapters") or {}:
        whole = "every parameter, adapters too," if part == "every" else f"the {part} part with its adapters"
        message = f"{whole} is frozen after the adapters were attached; they were judged as trained"
        draft.doubt(f"frozen_adapters.{part}", "placement", "memory", message=message)
    for part in draft.mapping("thawed") or {}:
        message = f"the {part} part is set to train in full, and was judged as its adapters alone"
        draft.doubt(f"thawed.{part}", "placement", "memory", message=message)


def _processor(draft: Draft) -> None:
    model = next((key for key in IDS if isinstance(draft.value(key), str)), IDS[0])
    if draft.value("processor") is not None:
        draft.read(PROCESSOR, prefix="processor.")
        for key in ("processor.max_pixels", "from_pretrained.max_pixels"):
            if draft.value(key) is not None:
                settle_pixels(draft, key, model=model)
        own = draft.value("processor.pretrained_model_name_or_path")
        if isinstance(own, str) and own != draft.value(model) and not _folder(draft, own):
            draft.doubt("processor.pretrained_model_name_or_path", "labels",
                        message=f"the processor is that of {quoted(own)}, and the model's own was judged")  # fmt: skip


def _folder(draft: Draft, name: str) -> bool:
    return name.startswith((".", "/", "~")) and not (draft.folder / Path(name)).exists()


def table_of(section: str, framework: Framework, arguments: Mapping[str, Fate]) -> Mapping[str, Fate]:
    """The table that a section of the document is read by; the arguments' own for the top."""
    return {
        "": arguments,
        "from_pretrained": UNSLOTH_MODEL if framework == "unsloth" else MODEL,
        "processor": PROCESSOR,
        "LoraConfig": ADAPTER,
        "get_peft_model": UNSLOTH_ADAPTER,
        "BitsAndBytesConfig": QUANTIZATION,
        "trainer": TRAINER_OF[framework],
        **LOOP,
    }.get(section, {})
