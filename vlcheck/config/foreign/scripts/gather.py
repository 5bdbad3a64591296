"""What a training says, put into one document: a key an argument, each with its place in the script."""

from __future__ import annotations

from dataclasses import replace

from vlcheck.config.foreign.scripts.chains import ATTACHES, PREPARES, Rows, is_none, named_split, path_from
from vlcheck.config.foreign.scripts.document import Document
from vlcheck.config.foreign.scripts.loops import put_loop
from vlcheck.config.foreign.scripts.objects import attribute
from vlcheck.config.foreign.scripts.scope import Script
from vlcheck.config.foreign.scripts.tables import ARGUMENTS_OF, PARTS, SECTIONS
from vlcheck.config.foreign.scripts.training import Training
from vlcheck.config.foreign.scripts.values import (
    Each,
    Entries,
    Made,
    Own,
    Plain,
    Unknown,
    Value,
    line_of,
    sayings,
)
from vlcheck.spec import Location


def document_of(script: Script, training: Training) -> Document:
    """Put what a training says into one document."""
    document = Document()
    document.places[""] = replace(training.start.where, key="")
    _arguments(document, training)
    _trainer(document, training)
    _model(document, training)
    _adapter(document, training)
    _effects(document, training)
    _rows(document, "load_dataset", training.train)
    if training.evaluated is not None:
        _rows(document, "eval_load_dataset", training.evaluated)
    if training.processor is not None:
        document.call("processor", training.processor, ("pretrained_model_name_or_path",))
        _processor_settings(document, script, training.processor)
    _collator(document, script, training)
    if training.framework == "other":
        put_loop(document, script, training)
    return document


def _arguments(document: Document, training: Training) -> None:
    arguments = training.arguments
    if not isinstance(arguments, Made):
        if arguments is not None and not is_none(arguments):
            document.put("args", arguments)
        return
    table = ARGUMENTS_OF[training.framework]
    own = [name for name in SECTIONS if name not in table]  # no library has an argument that is called so
    document.call("", arguments, ("output_dir",), leave=("model_init_kwargs", *own))
    if arguments.own is not None:
        for name, value in arguments.own.names.items():
            if name in table and name not in document.given and not isinstance(value, Own):
                from_class = _default_of(arguments, name)
                if from_class is not None:
                    document.put(name, from_class)
        for name in [name for name in document.given if name not in table and name in arguments.own.names]:
            del document.given[name]


def _default_of(arguments: Made, name: str) -> Value | None:
    value = attribute(arguments, name, arguments.where)
    return value if not isinstance(value, Unknown) else None


def _trainer(document: Document, training: Training) -> None:
    if training.framework == "other":
        return
    names = ("model", "args", "data_collator", "train_dataset", "eval_dataset", "processing_class")
    elsewhere = (*names, "peft_config", "tokenizer", "quantization_config", "model_init_kwargs")
    document.call("trainer", training.start, names, leave=elsewhere)
    for name in ("formatting_func", "compute_loss_func", "optimizers", "compute_metrics", "callbacks",
                 "preprocess_logits_for_metrics", "model_init", "optimizer_cls_and_kwargs"):  # fmt: skip
        key = f"trainer.{name}"
        if (value := document.unsure.pop(key, None)) is not None:  # that it is given is known, and what it does is not
            document.set(key, value, document.places[key])
    if (tokenizer := training.start.given("tokenizer")) is not None:
        document.set("trainer.tokenizer", _name_of(tokenizer), _keyword(training.start, "tokenizer"))


def _name_of(value: Value) -> str:
    return getattr(value, "name", None) or getattr(value, "path", None) or getattr(value, "text", None) or "..."


def _keyword(call: Made, name: str) -> Location:
    """Where a call is given an argument; for one that a call made, the call that takes it."""
    value = call.given(name)
    return value.where if isinstance(value, Plain) else call.where


def _model(document: Document, training: Training) -> None:
    base = training.base
    if isinstance(base, Made) and base.callee.endswith(".from_pretrained"):
        names = ("model_name", "max_seq_length", "dtype", "load_in_4bit") if base.callee.startswith("unsloth.") else (
            "pretrained_model_name_or_path",)  # fmt: skip
        document.call("from_pretrained", base, names, leave=("quantization_config",))
        _quantization(document, base.given("quantization_config"))
    elif base is not None:
        document.put("trainer.model", base, node=training.start.nodes.get("model"))
        loading = _loading(training)
        if isinstance(loading, Entries):
            for name, value in loading.entries.items():
                if name == "quantization_config":
                    _quantization(document, value)
                else:
                    document.put(f"from_pretrained.{name}", value)
        _quantization(document, training.start.given("quantization_config"))


def _loading(training: Training) -> Value | None:
    """What a trainer that loads the model itself is told to load it with."""
    arguments = training.arguments
    given = arguments.given("model_init_kwargs") if isinstance(arguments, Made) else None
    return given if given is not None else training.start.given("model_init_kwargs")


def _quantization(document: Document, value: Value | None) -> None:
    if is_none(value):
        if value is not None:
            document.said |= dict.fromkeys(sayings(value))
        return
    if isinstance(value, Made) and value.callee.endswith(".BitsAndBytesConfig"):
        document.call("BitsAndBytesConfig", value)
    elif value is not None:
        document.doubt("BitsAndBytesConfig", value, value.where)


def _adapter(document: Document, training: Training) -> None:
    adapter = training.adapter
    if isinstance(adapter, Made) and adapter.callee.endswith(".LoraConfig"):
        document.call("LoraConfig", adapter)
    elif isinstance(adapter, Made) and adapter.callee.startswith("unsloth.") and adapter.callee in ATTACHES:
        document.call("get_peft_model", adapter, ("model", "r"), leave=("model",))
    elif isinstance(adapter, Made) and adapter.callee.startswith("peft.") and adapter.callee.endswith("Config"):
        document.set("other_adapter", adapter.callee, adapter.where)
    elif adapter is not None and not is_none(adapter):
        document.doubt("LoraConfig", adapter, adapter.where)
    for step in training.chain:
        if isinstance(step, Made) and step.callee in PREPARES:
            document.call(
                "prepare_model_for_kbit_training", step,
                ("model", "use_gradient_checkpointing", "gradient_checkpointing_kwargs"), leave=("model",),
            )  # fmt: skip


def _effects(document: Document, training: Training) -> None:
    attached = min((step.order for step in training.chain if isinstance(step, Made) and step.callee in ATTACHES),
                   default=10**9)  # fmt: skip
    for number, call in enumerate(training.attached, 1):
        document.set(f"adapters.{number}", True, call.where)
    for path, call in training.effects:
        match call.callee:
            case ".gradient_checkpointing_enable" | ".activation_checkpointing_enable" if not path:
                document.call("gradient_checkpointing_enable", call, ("gradient_checkpointing_kwargs",))
                if not call.sure:
                    said = f"{line_of(call.where)}: checkpointing is on where a run decides so; it was taken as on"
                    document.said[said] = None
            case ".requires_grad_" | ".requires_grad=":
                _freeze(document, path, call, after=call.order > attached)
            case ".resize_token_embeddings" if not path:
                document.doubt("resize_token_embeddings", call, call.where)


def _freeze(document: Document, path: list[str], call: Made, *, after: bool) -> None:
    wanted = call.given("requires_grad", 0)
    on = wanted.value if isinstance(wanted, Plain) else True if wanted is None else None
    part = next((PARTS[name] for name in reversed(path) if name in PARTS), None)
    key = "requires_grad"
    by_name = any(name.isdigit() for name in path) or (isinstance(call.of, Each) and not call.sure)
    if by_name or on is None or (part is None and on):
        document.doubt(key, call, call.where)
    elif part is not None:
        section = "thawed" if on else "frozen_adapters" if after else "frozen"
        document.set(f"{section}.{part}", True, call.where)
    elif after:
        document.set("frozen_adapters.every", True, call.where)


def _rows(document: Document, key: str, rows: Rows) -> None:
    if rows.load is not None:
        document.call(key, rows.load, ("path", "name"))
        split = named_split(rows)
        if split is not None and rows.split is not None:
            document.set(f"{key}.split", split, rows.split_at or rows.load.where)
    elif rows.opaque is not None and not is_none(rows.opaque):
        document.doubt(key, rows.opaque, rows.opaque.where)
    if key == "load_dataset":
        for by, where in rows.changed[::-1]:
            document.set("rows.changed", by, where)
        if rows.samples is not None:
            document.set("rows.samples", rows.samples[0], rows.samples[1])
        if rows.held_back is not None:
            document.set("rows.held_back", True, rows.held_back)
    elif rows.samples is not None:
        document.set("rows.eval_samples", rows.samples[0], rows.samples[1])


def _processor_settings(document: Document, script: Script, processor: Made) -> None:
    """What is set on the processor's image processor later: `processor.image_processor.max_pixels = ...`."""
    for call in script.calls:
        path = path_from(call.of, [processor.order]) if call.callee.endswith("=") else None
        if path and path[-1] in ("image_processor", "video_processor") and path[-1] == "image_processor":
            document.put(f"processor.{call.callee[1:-1]}", call.arguments[0], call.where)


def _collator(document: Document, script: Script, training: Training) -> None:
    value = training.collator
    if is_none(value) or value is None:
        if training.start.rest:  # it may be in what is unpacked
            document.set("data_collator", {"own": "", "shown": ""}, training.start.where)
        return
    name = own_name(script, value)
    if isinstance(value, Made) and not name and not value.callee.startswith("."):
        document.call("data_collator", value)
        document.set("data_collator.called", value.callee, value.where)
        return
    document.set("data_collator", {"own": name, "shown": name or _name_of(value)}, value.where)


def own_name(script: Script, value: Value) -> str:
    """The name by which a script's collator is found again; empty where it has none."""
    if isinstance(value, Own) and value.name != "lambda":
        return value.name
    if isinstance(value, Made) and value.own is not None:
        return value.own.name
    if isinstance(value, Made) and value.callee == "functools.partial" and value.arguments:
        return own_name(script, value.arguments[0])
    return ""
