"""Ask a model: conversations in, what it answers out; greedy, batched, padded on the left.

Prompts come from the collator that training uses, so that template, image budget and pixels are those of training.
A trainer may call this between steps: mode, cache and generation settings are put back after every batch.

Dimensions: B rows, T tokens of the longest prompt, N tokens of the longest answer.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig

from vlcheck.data.conversation import BadRow, Conversation
from vlcheck.model.build import base_of
from vlcheck.processing.collator import Batch, Collator

MARGIN = 8
"""Tokens beyond the longest answer, so that one that goes on is seen to go on."""
KEPT = ("suppress_tokens", "begin_suppress_tokens")
"""Generation settings of a checkpoint that stay; those of sampling, and whatever else bends the argmax, do not."""


@dataclass(frozen=True)
class Answer:
    """What the model said to one row."""

    row: int
    """Index among the conversations."""
    name: str
    expected: str
    """The text of the conversation's last turn of an assistant."""
    text: str
    """Without special tokens and without the thinking block."""
    thinking: str
    prompt_tokens: int
    new_tokens: int
    """Its end token included."""
    ended: bool
    """It ended by itself, not at the limit."""


@dataclass(frozen=True)
class Unasked:
    """A row that no prompt could be made of."""

    row: int
    name: str
    problem: str


def evaluate(
    model: nn.Module,
    collator: Collator,
    conversations: Iterable[Conversation],
    *,
    batch_size: int,
    max_new_tokens: int,
    device: str = "cpu",
) -> Generator[Answer | Unasked, None, None]:
    """Let a model answer the last turn of each conversation, greedily.

    An answer ends at the family's end of a turn or at any end token that the checkpoint names.

    Args:
        model: a transformers model, or PEFT's around one; it may be in training mode with checkpointing on.
        collator: the training run's, processor and budget included.
        conversations: read batch by batch, never held.
        batch_size: rows a batch.
        max_new_tokens: most tokens of an answer; see `answer_tokens`.
        device: of the model's inputs.

    Yields:
        One `Answer` or `Unasked` a conversation, in their order.
    """
    waiting: list[tuple[int, Conversation]] = []
    for number, conversation in enumerate(conversations):
        waiting.append((number, conversation))
        if len(waiting) == batch_size:
            yield from _answered(model, collator, waiting, max_new_tokens, device)
            waiting = []
    if waiting:
        yield from _answered(model, collator, waiting, max_new_tokens, device)


def answer_tokens(collator: Collator, answers: Iterable[str], thinking: Iterable[str] = ()) -> int:
    """Tokens of the longest answer, and of the longest thinking block, with the end token; without `MARGIN`.

    Args:
        answers: every text that the model should be able to say.
        thinking: what it should be able to think first.
    """
    tokenizer = collator.processor.tokenizer

    def longest(texts: list[str]) -> int:
        return max(map(len, tokenizer(texts, add_special_tokens=False)["input_ids"])) if texts else 0

    marks = "".join(collator.dialogue.thought or ())
    return longest(list(answers)) + longest([text + marks for text in thinking]) + 1


def generate(model: nn.Module, batch: Batch, *, ends: Sequence[int], pad: int, max_new_tokens: int) -> torch.Tensor:
    """The most probable next token, again and again, until every row has ended.

    Args:
        batch: what `Collator.prompts` made, on the model's device.
        ends: ids that end an answer.
        pad: id that fills up rows that have ended.

    Returns:
        (B, N) ids that follow the prompts, N at most `max_new_tokens`.
    """
    base: Any = base_of(model)
    own = getattr(base, "generation_config", None) or GenerationConfig()
    settings = GenerationConfig(
        do_sample=False,
        num_beams=1,
        temperature=None,
        top_p=None,
        top_k=None,
        use_cache=True,
        max_new_tokens=max_new_tokens,
        eos_token_id=list(ends),
        pad_token_id=pad,
        bos_token_id=own.bos_token_id,
        **{name: getattr(own, name, None) for name in KEPT},
    )
    with _answering(model, base, settings), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        ids_BT: torch.Tensor = base.generate(**batch, generation_config=settings)
    return ids_BT[:, batch["input_ids"].shape[1] :]


def end_ids(model: nn.Module, collator: Collator) -> tuple[int, ...]:
    """Ids that end an answer: the family's end of a turn, then what the checkpoint and the tokenizer name."""
    base: Any = base_of(model)
    tokenizer = collator.processor.tokenizer
    found: list[int] = [int(tokenizer.convert_tokens_to_ids(collator.dialogue.end))]
    for holder in (getattr(base, "generation_config", None), base.config, tokenizer):
        named = getattr(holder, "eos_token_id", None)
        found += named if isinstance(named, list | tuple) else [] if named is None else [named]
    return tuple(dict.fromkeys(found))


def _answered(
    model: nn.Module,
    collator: Collator,
    rows: Sequence[tuple[int, Conversation]],
    max_new_tokens: int,
    device: str,
) -> Iterator[Answer | Unasked]:
    try:
        turns = [conversation.answers[-1] for _, conversation in rows]
        prompts = collator.prompts([conversation for _, conversation in rows], turns)
    except BadRow as bad:
        if len(rows) == 1:
            ((number, conversation),) = rows
            yield Unasked(number, str(conversation), str(bad).removeprefix(f"{conversation}: "))
        else:  # one by one, to find which; the others are asked
            for row in rows:
                yield from _answered(model, collator, [row], max_new_tokens, device)
        return
    ends, tokenizer = end_ids(model, collator), collator.processor.tokenizer
    pad = ends[-1] if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
    batch = {key: values.to(device) for key, values in prompts.items()}
    ids_BN = generate(model, batch, ends=ends, pad=pad, max_new_tokens=max_new_tokens).tolist()
    lengths = prompts["attention_mask"].sum(1).tolist()
    for (number, conversation), ids, length in zip(rows, ids_BN, lengths, strict=True):
        at = next((place for place, token in enumerate(ids) if token in ends), None)
        thinking, text = spoken(collator, ids if at is None else ids[:at])
        expected = conversation.turns[conversation.answers[-1]].text
        yield Answer(
            number, str(conversation), expected, text, thinking, length, len(ids) if at is None else at + 1,
            at is not None,
        )  # fmt: skip


def spoken(collator: Collator, ids: Sequence[int]) -> tuple[str, str]:
    """Thinking block and answer of generated ids; a block that was cut off leaves no answer."""
    tokenizer = collator.processor.tokenizer
    thought = collator.dialogue.thought
    if thought is not None:
        opens, closes = (mark.strip() for mark in thought)
        close_ids = tokenizer(closes, add_special_tokens=False)["input_ids"]
        starts = range(len(ids) - len(close_ids), -1, -1)
        behind = next((at for at in starts if list(ids[at : at + len(close_ids)]) == close_ids), None)
        whole = tokenizer.decode(ids, skip_special_tokens=False)
        if behind is not None:
            thinking = tokenizer.decode(ids[:behind], skip_special_tokens=False).partition(opens)[2].strip()
            return thinking, tokenizer.decode(ids[behind + len(close_ids) :], skip_special_tokens=True).strip()
        if opens in whole:
            return whole.partition(opens)[2].strip(), ""
    return "", tokenizer.decode(ids, skip_special_tokens=True).strip()


@contextmanager
def _answering(model: nn.Module, base: Any, settings: GenerationConfig) -> Iterator[None]:
    """Evaluation mode, cache and these settings, for a while.

    The checkpoint's own settings are taken away too: transformers fills from them whatever is unset in those it
    is given, sampling temperature included (seen in 5.23).
    """
    configs = {id(config): config for module in model.modules() if (config := getattr(module, "config", None))}
    caches = [(config, config.use_cache) for config in configs.values() if hasattr(config, "use_cache")]
    training = [(module, module.training) for module in model.modules()]
    own = getattr(base, "generation_config", None)
    try:
        model.eval()
        for config, _ in caches:
            config.use_cache = True
        base.generation_config = settings
        yield
    finally:
        base.generation_config = own
        for config, cached in caches:
            config.use_cache = cached
        for module, mode in training:
            module.training = mode
