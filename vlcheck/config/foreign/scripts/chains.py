"""What a model or a data set of a script went through, from where it was loaded to where it is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from vlcheck.config.foreign.scripts.objects import text_of, whole
from vlcheck.config.foreign.scripts.pure import counted
from vlcheck.config.foreign.scripts.values import Each, Items, Made, Part, Plain, Value
from vlcheck.spec import Location

ATTACHES = ("peft.get_peft_model", "unsloth.FastVisionModel.get_peft_model", "unsloth.FastModel.get_peft_model",
            "unsloth.FastLanguageModel.get_peft_model")  # fmt: skip
PREPARES = ("peft.prepare_model_for_kbit_training", "peft.prepare_model_for_int8_training")
CONTINUES = ("peft.PeftModel.from_pretrained", "peft.PeftModelForCausalLM.from_pretrained",
             "peft.AutoPeftModelForCausalLM.from_pretrained")  # fmt: skip
_AROUND = ("torch.compile", "torch.nn.DataParallel", "torch.nn.parallel.DistributedDataParallel",
           "unsloth.FastVisionModel.for_training", "unsloth.FastModel.for_training",
           "unsloth.FastLanguageModel.for_training")  # fmt: skip
_SAME = (".to", ".cuda", ".cpu", ".train", ".eval", ".requires_grad_", ".unwrap_model", ".prepare", ".bfloat16",
         ".half", ".float")  # fmt: skip
_TRAINERS_WRAPPERS = ("unsloth.train_on_responses_only",)
_KEPT = (".shuffle", ".with_format", ".set_format", ".cast_column", ".cast", ".flatten_indices", ".sort", ".repeat",
         ".to_iterable_dataset")  # fmt: skip
_CHANGED = (".map", ".filter", ".with_transform", ".set_transform", ".rename_column", ".rename_columns",
            ".remove_columns", ".select_columns", ".add_column", ".batch")  # fmt: skip


def steps(model: Value | None) -> list[Value]:
    """A model and what it was made of, the outermost first; the last is where it was loaded."""
    found: list[Value] = []
    while model is not None and len(found) < 32:
        found.append(model)
        model = _inner(model)
    return found


def _inner(model: Value) -> Value | None:
    if isinstance(model, Part):
        return model.of if model.name in ("module", "base_model", "model") else None
    if not isinstance(model, Made):
        return None
    if model.callee in (*ATTACHES, *PREPARES, *CONTINUES, *_AROUND):
        return model.given("model", 0)
    if model.callee in _SAME:
        taken = model.callee in (".prepare", ".unwrap_model")
        return model.given("model", 0) if taken else model.of
    return None


def trainer_of(value: Value | None) -> Made | None:
    """The trainer that a call of `train` is of."""
    while isinstance(value, Made):
        if value.callee in _TRAINERS_WRAPPERS or value.callee == ".prepare":
            value = value.given("trainer", 0)
        elif value.callee.startswith("."):
            return None
        else:
            return value
    return None


def path_from(value: Value | None, orders: Sequence[int]) -> list[str] | None:
    """Attribute names from one of these objects to a value; None where it is not of them."""
    names: list[str] = []
    while value is not None:
        if isinstance(value, Made) and value.order in orders:
            return names[::-1]
        if isinstance(value, Part):
            names.append(value.name)
        elif not isinstance(value, Each | Made):
            return None
        value = value.of
    return None


@dataclass(eq=False)
class Rows:
    """Where rows come from, and what becomes of them on the way."""

    load: Made | None = None
    split: str | None = None
    split_at: Location | None = None
    samples: tuple[int, Location] | None = None
    changed: list[tuple[str, Location]] = field(default_factory=list)
    """What makes other rows of them, by the words of the script."""
    held_back: Location | None = None
    opaque: Value | None = None
    """Where the way ends without a place that rows are read from."""


def rows_of(value: Value | None) -> Rows:
    """Follow a data set back to where it is loaded."""
    rows = Rows()
    for _ in range(32):
        match value:
            case Made(callee="datasets.load_dataset" | "datasets.load_from_disk"):
                rows.load = value
                return rows
            case Part(name="slice"):
                rows.changed.append(("a slice", value.where))
                value = value.of
            case Part():
                of_share = isinstance(value.of, Made) and value.of.callee == ".train_test_split"
                if rows.split is None and not of_share:
                    rows.split, rows.split_at = value.name, value.where
                value = value.of
            case Each():
                rows.changed += [(value.by, value.where)] if value.by else []
                value = value.of
            case Made(callee="builtins.list" | "torch.utils.data.DataLoader") if value.arguments:
                value = value.arguments[0]
            case Made(callee=".select" | ".take"):
                _count(value, rows)
                value = value.of
            case Made(callee=".train_test_split"):
                rows.held_back = value.where
                value = value.of
            case Made() if value.callee in _KEPT:
                value = value.of
            case Made() if value.callee in _CHANGED:
                rows.changed.append((_by(value), value.where))
                value = value.of
            case _:
                rows.opaque = value
                return rows
    return rows


def _count(call: Made, rows: Rows) -> None:
    wanted = call.arguments[0] if call.arguments else call.keywords.get("indices")
    count = whole(wanted) if wanted is not None else None
    if isinstance(wanted, Made) and wanted.callee == "builtins.range":
        numbers = counted([_at_most(argument) for argument in wanted.arguments])
        count = len(numbers) if numbers is not None else None
    elif isinstance(wanted, Items):
        count = len(wanted.items)
    if count and rows.samples is None:
        rows.samples = (count, call.where)


def _at_most(value: Value) -> Value:
    """The number that a `min(...)` holds beside others that are not known: there are no more rows than that."""
    if isinstance(value, Made) and value.callee == "builtins.min":
        return next((one for one in value.arguments if isinstance(one, Plain)), value)
    return value


def _by(call: Made) -> str:
    function = call.arguments[0] if call.arguments else call.keywords.get("function")
    name = getattr(function, "name", None) or getattr(function, "path", None)
    return f"{call.callee[1:]}({name})" if name else f"{call.callee[1:]}(...)"


def named_split(rows: Rows) -> str | None:
    """The split that is taken: by item, or by `split=`."""
    if rows.split is None and rows.load is not None:
        given = rows.load.keywords.get("split")
        return text_of(given) if given is not None else None
    return rows.split


def is_none(value: Value | None) -> bool:
    """Whether nothing is given."""
    return value is None or (isinstance(value, Plain) and value.value is None)


def under(calls: Sequence[Made], name: str) -> Iterator[Made]:
    """The calls of a name, with or without what it is a method of."""
    return (call for call in calls if call.callee == name or call.callee.endswith(f".{name}"))
