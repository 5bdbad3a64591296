"""The collator of the framework that a run names: its own where it is installed, a restatement where it is not.

A restatement takes what the run's template and processor make of a row and labels it as the framework's source does.
The framework's own template code is not run, and the origin says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vlcheck.collators.batch import Candidate
from vlcheck.collators.probes import as_example
from vlcheck.collators.regions import map_tokens
from vlcheck.config.frameworks import Framework, Supervision
from vlcheck.data.conversation import Conversation
from vlcheck.finding import Unavailable
from vlcheck.processing.collator import Batch, Collator
from vlcheck.processing.labels import IGNORE_INDEX
from vlcheck.spec import Framework as Name
from vlcheck.spec import RunSpec


def collator_of(framework: Framework, spec: RunSpec, collator: Collator) -> Candidate:
    """What stands for the framework's collator in this run.

    Args:
        collator: ours over the run's processor; restatements render and expand with it.

    Raises:
        Unavailable: if the framework has no collator for images: it is the user's then.
    """
    supervises = framework.supervises.value
    if supervises == "none":
        raise Unavailable(
            f"{framework.title} has no collator for images, so its labels are those of your script",
            "name your collator in data.collator and run with --allow-code",
        )
    chosen = spec.training.assistant_only_loss or spec.training.completion_only_loss
    default = None if chosen else framework
    if make := _OWN.get(framework.name):
        try:
            theirs = _of_rows(make(spec, collator.processor), split=spec.training.completion_only_loss is True)
            return Candidate(theirs, f"{_installed(framework)}'s own collator", default=default)
        except ImportError:
            pass  # it is restated, then
    if chosen:  # TRL's
        supervises = "answers"
    source = framework.supervises.source.partition(",")[0]
    title = f"{framework.title}'s labels, restated from {source}"
    return Candidate(_restated(supervises, collator), title, default=default)


def _trl(spec: RunSpec, processor: Any) -> Any:
    """As `SFTTrainer` makes it of rows with `messages`; trl 1.16, sft_trainer.py:942,982."""
    from trl.chat_template_utils import get_training_chat_template, has_generation_markers
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    only = spec.training.assistant_only_loss
    try:
        unmarked = only and not has_generation_markers(processor.chat_template)
        template = get_training_chat_template(processor) if unmarked else None
    except ValueError as unknown:
        raise Unavailable(f"training.assistant_only_loss: trl refuses the template: {unknown}") from unknown
    return DataCollatorForVisionLanguageModeling(
        processor,
        max_length=spec.data.max_length,
        completion_only_loss=bool(spec.training.completion_only_loss),
        assistant_only_loss=only,
        chat_template=template,
    )


_OWN: Mapping[Name, Callable[[RunSpec, Any], Any]] = {"trl": _trl}
"""Frameworks whose own collator is asked where it is installed."""


def _of_rows(theirs: Callable[..., Mapping[str, Any]], *, split: bool) -> Callable[..., Mapping[str, Any]]:
    """A collator of a data set's rows as one of conversations.

    Args:
        split: its rows are prompt and completion, which is the last answer; otherwise they are messages.
    """

    def call(conversations: Sequence[Conversation]) -> Mapping[str, Any]:
        rows = [as_example(conversation) for conversation in conversations]
        if split:
            return theirs(
                [
                    {"prompt": row["messages"][:-1], "completion": row["messages"][-1:], "images": row["images"]}
                    for row in rows
                ]
            )
        return theirs([{"messages": row["messages"], "images": row["images"]} for row in rows])

    return call


def _restated(supervises: Supervision, collator: Collator) -> Callable[[Sequence[Conversation]], Batch]:
    if supervises == "answers":
        return collator
    hidden = map_tokens(collator.template).image_ids if supervises == "all but images" else frozenset()

    def call(conversations: Sequence[Conversation]) -> Batch:
        batch = collator(conversations)
        labels_BT = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORE_INDEX)
        for number in hidden:
            labels_BT = labels_BT.masked_fill(labels_BT == number, IGNORE_INDEX)
        return {**batch, "labels": labels_BT}

    return call


def _installed(framework: Framework) -> str:
    from importlib.metadata import version

    return f"{framework.name} {version(framework.package)}"
