"""How evidence about conversations is had: processor, template, collator, and what checks of it show."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from vlcheck.collators.batch import Candidate
from vlcheck.collators.judge import CollatorChecks, judge
from vlcheck.collators.probes import as_example
from vlcheck.collators.tiny_model import build_batch_model
from vlcheck.collators.trial import Trial, try_out
from vlcheck.data.conversation import BadRow, Conversation
from vlcheck.data.images import BadPicture, open_picture
from vlcheck.data.read import NoSuchSplit, Row, read_rows
from vlcheck.evidence.options import Options
from vlcheck.finding import NotApplicable, Unavailable
from vlcheck.model.build import UnbuildableConfig, load_patch
from vlcheck.model.config import ModelConfig
from vlcheck.model.family import Dialogue, Family
from vlcheck.processing.chat_template import Template
from vlcheck.processing.collator import Collator
from vlcheck.processing.processor import FoundProcessor, find_processor
from vlcheck.spec import ConfigError, Problem, RunSpec


def dialogue(family: Family) -> Dialogue:
    """Looking up how the family holds a conversation."""
    if family.dialogue is None:
        raise Unavailable(f"vlcheck has not learnt how {family.name} holds a conversation, so no label was judged")
    return family.dialogue


def processor(
    spec: RunSpec, config: ModelConfig, family: Family, dialogue: Dialogue, options: Options
) -> FoundProcessor:
    """Finding the processor."""
    return find_processor(spec, config, family, offline=options.offline)


def own_collator(processor: FoundProcessor, dialogue: Dialogue) -> Collator:
    """Reading the chat template."""
    try:
        return Collator(processor.processor, dialogue)
    except BadRow as bad:
        raise Unavailable(f"labels cannot be placed with the {processor.origin}: {bad}") from bad


def template(own_collator: Collator) -> Template:
    """Reading the chat template."""
    return own_collator.template


def candidate(spec: RunSpec, processor: FoundProcessor, own_collator: Collator, options: Options) -> Candidate:
    """Finding the collator."""
    if spec.data.collator is None:
        return Candidate(own_collator, "vlcheck's collator", ours=True, thorough=False)
    if not options.allow_code:
        raise Unavailable(
            f"data.collator {spec.data.collator} was not run, which takes --allow-code", "run again with --allow-code"
        )
    try:
        found = load_patch(spec.data.collator)
        if "processor" in inspect.signature(found).parameters:
            found = found(processor=processor.processor)
    except Exception as error:  # it is the user's code
        message = f"data.collator {spec.data.collator} failed: {type(error).__name__}: {error}"
        raise ConfigError(Problem(spec.where("data.collator"), message)) from error
    return foreign(found, spec.data.collator, spec)


def foreign(collator: Callable[..., Mapping[str, Any]], origin: str, spec: RunSpec) -> Candidate:
    """A collator that takes a data set's rows, put where one is expected that takes conversations."""
    columns = {"image_column": spec.data.image_column, "answer_column": spec.data.answer_column}

    def call(conversations: Sequence[Conversation]) -> Mapping[str, Any]:
        return collator([as_example(conversation, **columns) for conversation in conversations])

    return Candidate(call, origin)


def checks(
    spec: RunSpec, candidate: Candidate, own_collator: Collator, conversations: tuple[Conversation, ...]
) -> CollatorChecks:
    """Collating probes and rows of the data."""
    return judge(candidate, own_collator, conversations, instruction=spec.data.instruction, answers=spec.intent.answers)


def trial(config: ModelConfig, family: Family, processor: FoundProcessor, candidate: Candidate,
          own_collator: Collator, checks: CollatorChecks) -> Trial:  # fmt: skip
    """Running batches through a tiny model."""
    try:
        model = functools.partial(build_batch_model, config.values, family, processor.processor)
        return try_out(candidate, own_collator, model, checks.unlike)
    except (Unavailable, UnbuildableConfig) as missing:
        return Trial(str(missing))


def conversations(spec: RunSpec, options: Options) -> tuple[Conversation, ...]:
    """Reading rows of the data."""
    try:
        rows = read_rows(spec.data, spec.data.train_split, offline=options.offline or not options.stream)
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


LABEL_COLLECTORS = (dialogue, processor, own_collator, template, candidate, checks, trial, conversations)
