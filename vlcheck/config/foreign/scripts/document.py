"""The calls of a training as one document: a key an argument, each with its place in the script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vlcheck.config.foreign.scripts.chains import (
    ATTACHES,
    PREPARES,
    Rows,
    is_none,
    named_split,
    under,
)
from vlcheck.config.foreign.scripts.scope import Script
from vlcheck.config.foreign.scripts.tables import ARGUMENTS_OF, OPTIMIZERS, PARTS, SCHEDULERS
from vlcheck.config.foreign.scripts.training import Training
from vlcheck.config.foreign.scripts.values import (
    Each,
    Entries,
    Imported,
    Made,
    NotPlain,
    Own,
    Plain,
    Unknown,
    Value,
    places,
    plain,
    sayings,
)
from vlcheck.finding import Json
from vlcheck.spec import Location


@dataclass
class Document:
    """What a script's training says, before any of it is judged."""

    given: dict[str, Json] = field(default_factory=dict)
    places: dict[str, Location] = field(default_factory=dict)
    unsure: dict[str, Value] = field(default_factory=dict)
    """Dotted paths of arguments whose values only a run would tell; what stands there."""
    said: dict[str, None] = field(default_factory=dict)
    """What was taken for granted, in order."""

    def put(self, key: str, value: Value, where: Location | None = None) -> None:
        """Set a key, dotted for one of a call, to what stands there."""
        at = where or value.where
        try:
            found = plain(value)
        except NotPlain as unknown:
            self.unsure[key] = unknown.value
            self.places[key] = replace(at, key=key)
            return
        self.set(key, found, at)
        self.places |= dict(places(value, key))
        self.said |= dict.fromkeys(sayings(value))

    def set(self, key: str, value: Json, where: Location) -> None:
        """Set a key to a plain value."""
        holder, _, name = key.rpartition(".")
        inner: Any = self.given.setdefault(holder, {}) if holder else self.given
        inner[name] = value
        self.places[key] = replace(where, key=key)

    def call(self, key: str, call: Made, names: Sequence[str] = (), *, leave: Sequence[str] = ()) -> None:
        """Put a call's arguments below a key; at the top where it is empty.

        Args:
            names: of the positional arguments.
            leave: arguments that are put elsewhere.
        """
        prefix = f"{key}." if key else ""
        if key:
            self.given.setdefault(key, {})
            self.places.setdefault(key, replace(call.where, key=key))
        self.said |= dict.fromkeys(call.said)
        named = dict(zip(names, call.arguments, strict=False)) | call.keywords | call.attributes
        for name, value in named.items():
            if name not in leave:
                self.put(prefix + name, value)
        for number, value in enumerate(call.rest):
            self.unsure[f"{prefix}**{number or ''}"] = value
            self.places[f"{prefix}**{number or ''}"] = replace(call.where, key=f"{prefix}**")


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
        _loop(document, script, training)
    return document


def _arguments(document: Document, training: Training) -> None:
    arguments = training.arguments
    if not isinstance(arguments, Made):
        if arguments is not None and not is_none(arguments):
            document.put("args", arguments)
        return
    table = ARGUMENTS_OF[training.framework]
    document.call("", arguments, ("output_dir",), leave=("model_init_kwargs",))
    if arguments.own is not None:
        for name, value in arguments.own.names.items():
            if name in table and name not in document.given and not isinstance(value, Own):
                from_class = _default_of(arguments, name)
                if from_class is not None:
                    document.put(name, from_class)
        for name in [name for name in document.given if name not in table and name in arguments.own.names]:
            del document.given[name]


def _default_of(arguments: Made, name: str) -> Value | None:
    from vlcheck.config.foreign.scripts.objects import attribute

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
            document.set(key, _name_of(value), document.places[key])
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
        document.places["from_pretrained"] = replace(base.where, key="from_pretrained")
        document.put("from_pretrained.pretrained_model_name_or_path", base)
        loading = _loading(training)
        if isinstance(loading, Entries):
            for name, value in loading.entries.items():
                if name == "quantization_config":
                    _quantization(document, value)
                else:
                    document.put(f"from_pretrained.{name}", value)
        _quantization(document, training.start.given("quantization_config"))
        if isinstance(base, Plain):
            document.set("model", True, base.where)


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
        document.places.setdefault("BitsAndBytesConfig", replace(value.where, key="BitsAndBytesConfig"))
        document.unsure["BitsAndBytesConfig"] = value


def _adapter(document: Document, training: Training) -> None:
    adapter = training.adapter
    if isinstance(adapter, Made) and adapter.callee.endswith(".LoraConfig"):
        document.call("LoraConfig", adapter)
    elif isinstance(adapter, Made) and adapter.callee.startswith("unsloth.") and adapter.callee in ATTACHES:
        document.call("get_peft_model", adapter, ("model", "r"), leave=("model",))
    elif adapter is not None and not is_none(adapter):
        document.places["LoraConfig"] = replace(adapter.where, key="LoraConfig")
        document.unsure["LoraConfig"] = adapter
    for step in training.chain:
        if isinstance(step, Made) and step.callee in PREPARES:
            document.call(
                "prepare_model_for_kbit_training", step,
                ("model", "use_gradient_checkpointing", "gradient_checkpointing_kwargs"), leave=("model",),
            )  # fmt: skip


def _effects(document: Document, training: Training) -> None:
    attached = min((step.order for step in training.chain if isinstance(step, Made) and step.callee in ATTACHES),
                   default=10**9)  # fmt: skip
    for path, call in training.effects:
        match call.callee:
            case ".gradient_checkpointing_enable" | ".activation_checkpointing_enable" if not path:
                document.call("gradient_checkpointing_enable", call, ("gradient_checkpointing_kwargs",))
                if not call.sure:
                    said = f"line {call.where.line}: checkpointing is switched on where a run decides so; it was taken as on"
                    document.said[said] = None
            case ".requires_grad_" | ".requires_grad=":
                _freeze(document, path, call, after=call.order > attached)
            case ".resize_token_embeddings" if not path:
                document.unsure["resize_token_embeddings"] = call
                document.places["resize_token_embeddings"] = replace(call.where, key="resize_token_embeddings")


def _freeze(document: Document, path: list[str], call: Made, *, after: bool) -> None:
    wanted = call.given("requires_grad", 0)
    on = wanted.value if isinstance(wanted, Plain) else True if wanted is None else None
    part = next((PARTS[name] for name in reversed(path) if name in PARTS), None)
    key = "requires_grad"
    by_name = any(name.isdigit() for name in path) or (isinstance(call.of, Each) and not call.sure)
    if by_name or on is None or (part is None and on):
        document.unsure[key] = call
        document.places[key] = replace(call.where, key=key)
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
    elif rows.opaque is not None:
        document.places[key] = replace(rows.opaque.where, key=key)
        document.unsure[key] = rows.opaque
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
    from vlcheck.config.foreign.scripts.chains import path_from

    for call in script.calls:
        path = path_from(call.of, [processor.order]) if call.callee.endswith("=") else None
        if path and path[-1] in ("image_processor", "video_processor") and path[-1] == "image_processor":
            document.put(f"processor.{call.callee[1:-1]}", call.arguments[0], call.where)


def _collator(document: Document, script: Script, training: Training) -> None:
    value = training.collator
    if is_none(value) or value is None:
        return
    if isinstance(value, Made) and value.own is None and not value.callee.startswith("."):
        document.call("data_collator", value)
        document.set("data_collator.called", value.callee, value.where)
        return
    document.set("data_collator", {"own": own_name(script, value), "shown": _name_of(value)}, value.where)


def own_name(script: Script, value: Value) -> str:
    """The name by which a script's collator is found again; empty where it has none."""
    if isinstance(value, Own) and value.name != "lambda":
        return value.name
    if isinstance(value, Made) and value.own is not None:
        return value.own.name
    if isinstance(value, Made) and value.callee == "functools.partial" and value.arguments:
        return own_name(script, value.arguments[0])
    return ""


def _loop(document: Document, script: Script, training: Training) -> None:
    if training.loader is not None:
        document.call("DataLoader", training.loader, ("dataset", "batch_size"), leave=("dataset", "collate_fn"))
    for call in script.calls:
        if call.callee in OPTIMIZERS or call.callee.rpartition(".")[2] in _SHORT:
            document.call("optimizer", call, ("params", "lr"), leave=("params",))
            path = call.callee if call.callee in OPTIMIZERS else _SHORT[call.callee.rpartition(".")[2]]
            document.set("optimizer.called", OPTIMIZERS[path], call.where)
            break
    for call in script.calls:
        if call.callee == "accelerate.Accelerator":
            document.call("Accelerator", call)
            break
    for call in script.calls:
        if call.callee in SCHEDULERS:
            names = ("name", "optimizer", "num_warmup_steps") if not SCHEDULERS[call.callee] else (
                "optimizer", "num_warmup_steps")  # fmt: skip
            document.call("scheduler", call, names, leave=("optimizer", "num_training_steps"))
            if SCHEDULERS[call.callee]:
                document.set("scheduler.name", SCHEDULERS[call.callee], call.where)
            break
    clip = next(under(script.calls, "clip_grad_norm_"), None)
    if clip is not None:
        document.call("clip_grad_norm_", clip, ("parameters", "max_norm"), leave=("parameters",))
    epochs = next((over for name, over in script.loops if "epoch" in name.lower()), None)
    if isinstance(epochs, Made) and epochs.callee == "builtins.range" and len(epochs.arguments) == 1:
        document.put("epochs", epochs.arguments[0])


_SHORT: Mapping[str, str] = {path.rpartition(".")[2]: path for path in OPTIMIZERS}


def imported(value: Value | None) -> str:
    """The dotted path of something imported; empty for anything else."""
    return value.path if isinstance(value, Imported) else ""
