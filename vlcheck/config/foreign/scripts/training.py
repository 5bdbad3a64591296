"""Find what a script trains: the trainer or the loop, its model, adapters, arguments, rows and collator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vlcheck.config.foreign.scripts.chains import (
    ATTACHES,
    CONTINUES,
    PREPARES,
    Rows,
    is_none,
    path_from,
    rows_of,
    steps,
    trainer_of,
)
from vlcheck.config.foreign.scripts.scope import Script
from vlcheck.config.foreign.scripts.values import Made, Part, Value
from vlcheck.spec import ConfigError, Framework, Problem

_SFT = ("trl.SFTTrainer", "unsloth.UnslothTrainer")
_PLAIN = ("transformers.Trainer", "transformers.Seq2SeqTrainer")
_LOADERS = ("AutoModel", "ForConditionalGeneration", "ForCausalLM", "ForVision2Seq", "ForImageTextToText",
            "FastVisionModel", "FastModel", "FastLanguageModel", "MultimodalLM", "LMHeadModel")  # fmt: skip
_PROCESSORS = ("Processor", "Tokenizer", "TokenizerFast", "ImageProcessorFast")


@dataclass(frozen=True, eq=False)
class Training:
    """What a script trains, as the calls that say so."""

    framework: Framework
    start: Made
    """The trainer's call, or the loop's `backward`."""
    model: Value | None
    chain: list[Value]
    arguments: Value | None
    adapter: Value | None
    train: Rows
    evaluated: Rows | None
    collator: Value | None
    processor: Made | None
    loader: Made | None = None
    others: tuple[int, ...] = ()
    """Lines of further trainings."""
    attached: tuple[Made, ...] = ()
    """Calls that attach adapters to the model, in order."""
    effects: list[tuple[list[str], Made]] = field(default_factory=list)
    """Calls on the model or a part of it: attribute names from the model, and the call."""

    @property
    def base(self) -> Value | None:
        """Where the model was loaded."""
        return self.chain[-1] if self.chain else None


def find_training(script: Script) -> Training | None:
    """The first training of a script; None where it trains nothing.

    Raises:
        ConfigError: if it trains by something else than supervised fine-tuning.
    """
    trainers = [call for call in script.calls if call.callee in (*_SFT, *_PLAIN)]
    started = [found for call in script.calls if call.callee == ".train" and (found := trainer_of(call.of))]
    trainers = [made for made in trainers if any(made.order == one.order for one in started)] or trainers
    if trainers:
        first, *rest = trainers
        return _by_trainer(script, first, tuple(dict.fromkeys(one.where.line for one in rest)))
    for call in script.calls:
        name = call.callee.rpartition(".")[2]
        if call.callee.startswith("trl.") and name.endswith("Trainer"):
            message = f"trains with {name}; vlcheck judges supervised fine-tuning: SFTTrainer, Trainer or a loop"
            raise ConfigError(Problem(call.where, message))
    backward = next((call for call in script.calls if call.callee == ".backward"), None)
    return _by_loop(script, backward) if backward is not None else None


def _by_trainer(script: Script, trainer: Made, others: tuple[int, ...]) -> Training:
    model = trainer.given("model", 0)
    chain = steps(model)
    unsloth = any(isinstance(step, Made) and step.callee.startswith("unsloth.") for step in chain)
    framework: Framework = "unsloth" if unsloth else "trl" if trainer.callee in _SFT else "transformers"
    evaluated = trainer.given("eval_dataset", 4)
    return _completed(
        script, framework, trainer, model,
        arguments=trainer.given("args", 1),
        adapter=trainer.given("peft_config"),
        rows=trainer.given("train_dataset", 3),
        evaluated=evaluated,
        collator=trainer.given("data_collator", 2),
        processor=trainer.given("processing_class") or trainer.given("tokenizer"),
        others=others,
    )  # fmt: skip


def _by_loop(script: Script, backward: Made) -> Training:
    """A loop: the model that `prepare` is given, or the last that was loaded; the first loader."""
    prepared = [value for call in script.calls if call.callee == ".prepare" for value in call.arguments]
    models = [value for value in prepared if _is_model(value)]
    made = [call for call in script.calls if call.callee in ATTACHES] or [
        call for call in script.calls if _is_model(call)
    ]
    model = models[0] if models else made[-1] if made else None
    loader = next((call for call in script.calls if call.callee == "torch.utils.data.DataLoader"), None)
    return _completed(
        script, "other", backward, model,
        arguments=None,
        adapter=None,
        rows=loader.given("dataset", 0) if loader is not None else None,
        evaluated=None,
        collator=loader.given("collate_fn") if loader is not None else None,
        processor=None,
        loader=loader,
    )  # fmt: skip


def _completed(  # noqa: PLR0913  what a trainer's call and a loop have in common
    script: Script,
    framework: Framework,
    start: Made,
    model: Value | None,
    *,
    arguments: Value | None,
    adapter: Value | None,
    rows: Value | None,
    evaluated: Value | None,
    collator: Value | None,
    processor: Value | None,
    loader: Made | None = None,
    others: tuple[int, ...] = (),
) -> Training:
    chain = steps(model)
    orders = [step.order for step in chain if isinstance(step, Made)]
    effects = [(path, call) for call in script.calls
               if call.callee.startswith(".") and (path := path_from(call.of, orders)) is not None]  # fmt: skip
    attached = _attachings(script, orders) if is_none(adapter) else (*_attachings(script, orders), start)
    if is_none(adapter):
        adapter = _attached(chain, effects) or adapter
    return Training(
        framework=framework, start=start, model=model, chain=chain, arguments=arguments, adapter=adapter,
        train=rows_of(rows), evaluated=None if is_none(evaluated) else rows_of(evaluated), collator=collator,
        processor=_processor(script, processor), loader=loader, others=others, effects=effects,
        attached=attached,
    )  # fmt: skip


def _attached(chain: Sequence[Value], effects: Sequence[tuple[list[str], Made]]) -> Value | None:
    for step in chain:
        if isinstance(step, Made) and step.callee in (*ATTACHES, *CONTINUES):
            return step if step.callee != "peft.get_peft_model" else step.given("peft_config", 1)
    added = next((call for path, call in effects if call.callee == ".add_adapter" and not path), None)
    return None if added is None else added.given("adapter_config", 0)


def _attachings(script: Script, orders: Sequence[int]) -> tuple[Made, ...]:
    """Calls that attach adapters to a model of which these are stages."""
    found = [
        call
        for call in script.calls
        if call.callee in ATTACHES
        and any(isinstance(step, Made) and step.order in orders for step in steps(call.given("model", 0)))
    ]
    found += [call for call in script.calls if call.callee == ".add_adapter" and path_from(call.of, orders) == []]
    return tuple(sorted(found, key=lambda call: call.order))


def _is_model(value: Value) -> bool:
    if not isinstance(value, Made):
        return False
    if value.callee in (*ATTACHES, *PREPARES):
        return True
    holder, _, name = value.callee.rpartition(".")
    last = holder.rpartition(".")[2]
    return name == "from_pretrained" and any(word in last for word in _LOADERS)


def _processor(script: Script, given: Value | None) -> Made | None:
    """The processor that the trainer is given, or the first that the script loads."""
    if isinstance(given, Part):
        given = given.of
    if isinstance(given, Made) and is_processor(given):
        return given
    return next((call for call in script.calls if is_processor(call)), None)


def is_processor(value: Value) -> bool:
    """Whether a call loads a processor or a tokenizer."""
    if not isinstance(value, Made) or not value.callee.endswith(".from_pretrained"):
        return False
    holder = value.callee.split(".")[-2]
    return holder.endswith(_PROCESSORS)
