"""Run a collator's batches through a tiny model of the same structure: what do its keys and ids do there?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from vlcheck.collators.judge import Candidate
from vlcheck.collators.probes import BUDGETS, ask, budget, picture
from vlcheck.data.conversation import Conversation
from vlcheck.processing.collator import Batch, Collator
from vlcheck.processing.labels import IGNORE_INDEX

SIZE = (96, 64)
FEWEST = BUDGETS[0]
"""Soft tokens of an image, where the family can set them, once the run's own number was seen to fit: what a batch
means depends on no number of patches, and what a tower takes grows with its square."""
SHORT, LONG = "Beagle", "It is a Russian_Blue that sits on a sofa"
"""Two answers of different length, so that a mean of means is not the mean."""
ROUNDING = 1e-5
"""Changes of a logit below this are rounding of float32 sums taken in another order."""


@dataclass(frozen=True)
class Trial:
    """What a tiny model made of a collator's batches; a part that could not be run is None."""

    problem: str = ""
    """Why nothing, or not all, could be run."""
    mismatch: str = ""
    """The model's own complaint that ids and images do not fit together."""
    swapped: float | None = None
    """Largest change of a logit with another picture in the row."""
    logits: int = 0
    leaked: float | None = None
    """Largest change of a logit before an answer's id that was changed."""
    earlier: int = 0
    without: Mapping[str, str] = field(default_factory=dict)
    """What leaving out each of the processor's keys that the batch lacks does, in words."""
    accumulated: tuple[float, float] | None = None
    """Loss of two rows in one batch, and accumulated one by one as transformers' Trainer does it."""
    packed: float | None = None
    """Largest change of an answer's logits between two rows collated together and each by itself."""
    packed_labels: int = 0


def try_out(candidate: Candidate, collator: Collator, build: Callable[[], nn.Module]) -> Trial:
    """Collate a few rows and compare what a tiny model computes from them.

    Args:
        candidate: the collator that is checked.
        collator: ours over the same processor, for the keys that the batch lacks.
        build: makes the tiny model; called once, and only if there is a batch.
    """
    first, other = (_row(SHORT, seed) for seed in (0, 1))
    try:
        batch = dict(candidate.call([first]))
    except Exception as error:  # it may be the user's code; VLC225 says so
        return Trial(f"the collator made no batch: {type(error).__name__}: {error}")
    model = build()
    if refusal := _refusal(model, batch):
        trial = refusal
    else:
        with budget(collator, FEWEST):
            trial = _compared(model, candidate, first, other)
    return replace(trial, without=_without(model, batch, collator, first))


def _refusal(model: nn.Module, batch: Batch) -> Trial | None:
    """What the model has against a batch as the run would make it."""
    try:
        _logits(model, batch)
    except Exception as error:  # a model's forward raises whatever it likes on a batch that lacks something
        told = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        counted = "features" in told and "tokens" in told
        return Trial(f"a tiny model refuses the batch: {told}", told if counted else "")
    return None


def _compared(model: nn.Module, candidate: Candidate, first: Conversation, other: Conversation) -> Trial:
    """Change the picture, then an answer's id, then what a row is collated with."""
    batch, swapped = (dict(candidate.call([row])) for row in (first, other))
    logits = _logits(model, batch)
    trial = Trial(swapped=_change(logits, _logits(model, swapped)), logits=logits.numel())
    return _several(_leak(trial, model, batch, logits), model, candidate, batch)


def _row(answer: str, seed: int) -> Conversation:
    return ask(f"trial, {answer}", "Which breed is it?", answer, picture(SIZE, seed))


def _output(model: nn.Module, batch: Mapping[str, torch.Tensor], **options: Any) -> Any:
    with torch.no_grad():
        return model(**batch, **options)


def _logits(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    made: torch.Tensor = _output(model, batch).logits
    return made


def _loss(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> float:
    return float(_output(model, batch).loss)


def _change(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference; infinite where the shapes differ."""
    if one.shape != other.shape:
        return float("inf")
    largest = float((one - other).abs().max()) if one.numel() else 0.0
    return largest if largest > ROUNDING else 0.0


def _leak(trial: Trial, model: nn.Module, batch: Mapping[str, torch.Tensor], logits: torch.Tensor) -> Trial:
    """Change the last supervised id but one, and see what moves before it."""
    supervised = torch.nonzero(batch["labels"][0] != IGNORE_INDEX).flatten()
    if len(supervised) < 2:
        return trial
    at = int(supervised[-2])
    ids, known = batch["input_ids"].clone(), batch["input_ids"][0]
    ids[0, at] = known[at - 1] if known[at - 1] != known[at] else known[0]
    earlier = _logits(model, {**batch, "input_ids": ids})[:, :at]
    return replace(trial, leaked=_change(logits[:, :at], earlier), earlier=logits[:, :at].numel())


def _without(
    model: nn.Module, batch: Mapping[str, torch.Tensor], collator: Collator, row: Conversation
) -> dict[str, str]:
    """What each key that the processor makes and the batch lacks would have done."""
    whole = collator([row])
    return {
        key: _effect(model, whole, key) for key in whole if key not in batch and key in collator.dialogue.batch_keys
    }


def _effect(model: nn.Module, whole: Batch, key: str) -> str:
    """The loss with and without a key."""
    model.train()  # some check their input only then
    try:
        complete = _loss(model, whole)
        lacking = _loss(model, {name: value for name, value in whole.items() if name != key})
    except Exception as error:  # a model's forward raises whatever it likes
        return f"the forward raises {type(error).__name__}: {' '.join(str(error).split())[:120]}"
    finally:
        model.eval()
    if abs(lacking - complete) <= ROUNDING:
        return f"the loss stays at {complete:.4f}"
    return f"the forward runs and gives a loss of {lacking:.4f} instead of {complete:.4f}"


def _several(trial: Trial, model: nn.Module, candidate: Candidate, first: Mapping[str, torch.Tensor]) -> Trial:
    """Two rows together and apart; the first of them is collated already."""
    rows = [_row(SHORT, 0), _row(LONG, 1)]
    try:
        together, apart = dict(candidate.call(rows)), [first, dict(candidate.call(rows[1:]))]
        merged = len(together["input_ids"]) < len(rows)
        options = {} if merged else _loss_options(model, together)
        whole, *single = (_output(model, batch, **options) for batch in (together, *apart))
        answers = [_answers(own.logits, row) for own, row in zip(single, apart, strict=True)]
        found = _answers(whole.logits, together, () if merged else apart)
        trial = replace(trial, packed=_change(found, torch.cat(answers)), packed_labels=sum(map(len, answers)))
        if merged:
            return trial
        losses = [float(own.loss) for own in single]
        return replace(trial, accumulated=(float(whole.loss), sum(losses) / (1 if options else len(losses))))
    except Exception as error:  # the user's code, or a model's forward
        return replace(trial, problem=f"two rows at once: {type(error).__name__}: {' '.join(str(error).split())[:200]}")


def _loss_options(model: nn.Module, together: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """How transformers' Trainer adds a step's loss up.

    It hands the number of labels of the whole step to a model that takes it; the loss of others it averages.
    """
    count = int((together["labels"][:, 1:] != IGNORE_INDEX).sum())
    return {"num_items_in_batch": count} if getattr(model, "accepts_loss_kwargs", True) else {}


def _answers(
    logits: torch.Tensor, batch: Mapping[str, torch.Tensor], alone: Sequence[Mapping[str, torch.Tensor]] = ()
) -> torch.Tensor:
    """Logits at supervised positions; with `alone`, at those that each row has when it is by itself."""
    if not alone:
        return logits[batch["labels"] != IGNORE_INDEX]
    wanted = [row["labels"][0][_real(row)[0]] != IGNORE_INDEX for row in alone]
    found = [logits[number][_real(batch)[number]] for number in range(len(alone))]
    return torch.cat([own[: len(where)][where] for own, where in zip(found, wanted, strict=True)])


def _real(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Where a batch is not padding, (B, T)."""
    return batch["attention_mask"].bool() if "attention_mask" in batch else torch.ones_like(batch["labels"]).bool()
