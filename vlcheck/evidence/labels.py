"""How evidence about conversations is had: processor, template, collator, and what checks of it show."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from vlcheck.collators.batch import Candidate
from vlcheck.collators.frameworks import collator_of
from vlcheck.collators.judge import CollatorChecks, judge
from vlcheck.collators.probes import as_example, built_in
from vlcheck.collators.tiny_model import build_batch_model
from vlcheck.collators.trial import Trial, try_out
from vlcheck.config.defaults import framework_of
from vlcheck.config.foreign.scripts.sliced import Unsliceable, is_in_script, load_collator
from vlcheck.data.conversation import BadRow, Conversation
from vlcheck.data.images import BadPicture, open_picture
from vlcheck.data.read import NoSuchSplit, Row, read_rows, splits
from vlcheck.evidence.options import Options
from vlcheck.finding import NotApplicable, Unavailable, collector
from vlcheck.model.build import UnbuildableConfig, load_patch
from vlcheck.model.config import ModelConfig
from vlcheck.model.family import Dialogue, Family
from vlcheck.processing.chat_template import Template
from vlcheck.processing.collator import Collator
from vlcheck.processing.processor import FoundProcessor, find_processor
from vlcheck.spec import ConfigError, Problem, RunSpec


@collector("looking up how the family holds a conversation")
def dialogue(family: Family) -> Dialogue:
    """The tokens and keys by which the family marks turns, answers and images.

    Raises:
        Unavailable: if vlcheck does not know them, so that no label can be judged.
    """
    if family.dialogue is None:
        raise Unavailable(f"vlcheck has not learnt how {family.name} holds a conversation, so no label was judged")
    return family.dialogue


@collector("finding the processor")
def processor(
    spec: RunSpec, config: ModelConfig, family: Family, dialogue: Dialogue, options: Options
) -> FoundProcessor:
    """The run's processor with its image budget set, and where it came from; a stand-in where no place has it.

    Raises:
        Unavailable: if it cannot be loaded, and there is no stand-in for the family.
        ConfigError: if `data.max_soft_tokens` is set for a family whose images have a fixed number of tokens.
    """
    return find_processor(spec, config, family, offline=options.offline)


@collector("reading the chat template")
def own_collator(spec: RunSpec, processor: FoundProcessor, dialogue: Dialogue) -> Collator:
    """Vlcheck's own collator over the run's processor, without a limit of length.

    It labels the answers that `intent.answers` names.

    Raises:
        Unavailable: if the template gives no way to tell answers from prompts.
    """
    try:
        return Collator(processor.processor, dialogue, answers=spec.intent.answers)
    except BadRow as bad:
        raise Unavailable(f"labels cannot be placed with the {processor.origin}: {bad}") from bad


@collector("reading the chat template")
def template(own_collator: Collator) -> Template:
    """What the run's chat template writes around turns and answers."""
    return own_collator.template


@collector("finding the collator")
def candidate(spec: RunSpec, processor: FoundProcessor, own_collator: Collator, options: Options) -> Candidate:
    """The collator that is judged: the one that `data.collator` names, else the framework's, else vlcheck's own.

    Raises:
        Unavailable: if the config names one and the caller allows no code, or a framework that is not known.
        ConfigError: if it cannot be imported or made.
    """
    if spec.data.collator is None and (framework := framework_of(spec)) is not None:
        return collator_of(framework, spec, own_collator)
    if spec.data.collator is None and spec.training.framework == "other":
        raise Unavailable(
            "training.framework is other, so its collator is not known",
            "name your collator in data.collator and run with --allow-code",
        )
    if spec.data.collator is None:
        return Candidate(own_collator, "vlcheck's collator", ours=True, thorough=False)
    if not options.allow_code:
        raise Unavailable(
            f"data.collator {spec.data.collator} was not run, which takes --allow-code", "run again with --allow-code"
        )
    if is_in_script(spec.data.collator):
        return _of_script(spec.data.collator, processor, spec)
    try:
        found = load_patch(spec.data.collator)
        if "processor" in inspect.signature(found).parameters:
            found = found(processor=processor.processor)
    except Exception as error:  # it is the user's code
        message = f"data.collator {spec.data.collator} failed: {type(error).__name__}: {error}"
        raise ConfigError(Problem(spec.where("data.collator"), message)) from error
    return foreign(found, spec.data.collator, spec)


def _of_script(name: str, processor: FoundProcessor, spec: RunSpec) -> Candidate:
    """The collator of a training script; what it makes of a built-in row tells whether it reads rows of that form."""
    try:
        made = foreign(load_collator(name, processor.processor), name, spec)
        made.call([built_in()[0].conversation])
    except Unsliceable as missing:
        raise Unavailable(f"data.collator {name} was not run: {missing}", "name one of a module") from missing
    except Exception as error:  # it is the user's code, and its rows may have columns of their own
        told = f"data.collator {name} makes no batch of a row with messages and images: {type(error).__name__}: {error}"
        raise Unavailable(told, "name one of a module that takes such rows, or use vlcheck.check_collator") from error
    return made


def foreign(collator: Callable[..., Mapping[str, Any]], origin: str, spec: RunSpec) -> Candidate:
    """A collator that takes a data set's rows, put where one is expected that takes conversations."""
    columns = {"image_column": spec.data.image_column, "answer_column": spec.data.answer_column}

    def call(conversations: Sequence[Conversation]) -> Mapping[str, Any]:
        return collator([as_example(conversation, **columns) for conversation in conversations])

    return Candidate(call, origin)


@collector("collating probes and rows of the data")
def checks(
    spec: RunSpec,
    candidate: Candidate,
    own_collator: Collator,
    conversations: tuple[Conversation, ...],
    evaluated_conversations: tuple[Conversation, ...],
) -> CollatorChecks:
    """One row check for each row of a batch: supervised ids by region, shifts, soft tokens; and what was refused."""
    rows = (*conversations, *evaluated_conversations)
    return judge(candidate, own_collator, rows, instruction=spec.data.instruction, answers=spec.intent.answers)


@collector("running batches through a tiny model")
def trial(config: ModelConfig, family: Family, processor: FoundProcessor, candidate: Candidate,
          own_collator: Collator, checks: CollatorChecks) -> Trial:  # fmt: skip
    """What labels and losses of a tiny model show of the collator's batches; why not, where they cannot be run."""
    try:
        model = functools.partial(build_batch_model, config.values, family, processor.processor)
        return try_out(candidate, own_collator, model, checks.unlike)
    except (Unavailable, UnbuildableConfig) as missing:
        return Trial(str(missing))


@collector("reading rows of the data")
def conversations(spec: RunSpec, options: Options) -> tuple[Conversation, ...]:
    """The first readable rows of the training split, at most `options.rows`; none where the data cannot be had.

    Why it cannot be had is what the rules of the data say; labels are then judged on built-in rows.
    """
    return _first_rows(spec, spec.data.train_split, options)


@collector("reading rows of the evaluation split")
def evaluated_conversations(spec: RunSpec, options: Options) -> tuple[Conversation, ...]:
    """The first readable rows of the evaluation split, where it is another one.

    An answer that is cut there alone makes the evaluation's loss NaN.
    """
    return tuple(row for split in splits(spec.data)[1:] for row in _first_rows(spec, split, options))


def _first_rows(spec: RunSpec, split: str, options: Options) -> tuple[Conversation, ...]:
    try:
        rows = read_rows(spec.data, split, offline=options.offline or not options.stream)
        sound = (row.conversation for row in rows if isinstance(row, Row) and _readable(row))
        return tuple(islice(sound, options.rows))
    except (Unavailable, NotApplicable, NoSuchSplit):
        return ()  # the rules of the data say why; labels are then judged on built-in rows, which the report says


def _readable(row: Row) -> bool:
    """Whether its images can be opened; the rules of the data name those that cannot."""
    try:
        for picture in row.pictures:
            open_picture(picture)
    except BadPicture:
        return False
    return True


LABEL_COLLECTORS = (dialogue, processor, own_collator, template, candidate, checks, trial, conversations,
                    evaluated_conversations)  # fmt: skip
