"""Run a collator's batches through a tiny model of the same structure: what do its keys and ids do there?

Our own batch of the same rows is the control: what the model refuses of ours too says nothing about a collator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from vlcheck.collators.batch import Candidate, readable
from vlcheck.collators.crossing import IMAGES, ROUNDING, change, crossing
from vlcheck.collators.order import matched
from vlcheck.collators.probes import BUDGETS, ask, budget, few_tiles, picture
from vlcheck.collators.regions import map_tokens
from vlcheck.collators.remembered import remembered
from vlcheck.collators.tiny_model import answer, forget
from vlcheck.data.conversation import Conversation
from vlcheck.processing.collator import Batch, Collator
from vlcheck.processing.labels import IGNORE_INDEX

SIZE = (96, 64)
FEWEST = BUDGETS[0]
"""Soft tokens of an image, where the family can set them, once the run's own number was seen to fit: what a batch
means depends on no number of patches, and what a tower takes grows with its square."""
SHORT, LONG = "Beagle", "It is a Russian_Blue that sits on a sofa"
"""Two answers of different length, so that a mean of means is not the mean."""


@dataclass(frozen=True)
class Trial:
    """What a tiny model made of a collator's batches; a part that could not be run is None."""

    problem: str = ""
    """Why nothing, or not all, could be run."""
    refused: str = ""
    """What the model has against a batch of the collator's, while it takes ours of the same rows."""
    mismatch: str = ""
    """The model's own complaint that ids and images do not fit together."""
    fits: Mapping[str, int | None] = field(default_factory=dict)
    """Rows with an odd number of soft tokens, and the features that their batch's images have; None: refused."""
    swapped: float | None = None
    """Largest change of a logit with another picture in the row."""
    logits: int = 0
    blank: str = ""
    """A key of pixels that has one value all over."""
    leaked: float | None = None
    """Largest change of a logit before an answer's id that was changed."""
    earlier: int = 0
    without: Mapping[str, str] = field(default_factory=dict)
    """What leaving out each of the processor's keys that the batch lacks does, in words."""
    replaced: frozenset[str] = frozenset()
    """Of these, keys that change nothing in the collator's own batch: another of its keys stands in for them."""
    accumulated: tuple[float, float] | None = None
    """Loss of two rows in one batch, and accumulated one by one as transformers' Trainer does it."""
    packed: float | None = None
    """Largest change of an answer's logits between two rows collated together and each by itself."""
    packed_labels: int = 0
    cause: str = ""
    """Of that change; see `Crossing`."""


def try_out(
    candidate: Candidate, collator: Collator, build: Callable[[], nn.Module], unlike: Sequence[tuple[str, Batch]] = ()
) -> Trial:
    """Collate a few rows and compare what a tiny model computes from them.

    Args:
        candidate: the collator that is checked.
        collator: ours over the same processor: the control, and the keys that the batch lacks.
        build: makes the tiny model; called once, and only if there is a batch.
        unlike: named batches whose number of soft tokens is not the processor's.
    """
    with remembered(collator.processor.image_processor):
        return _tried(candidate, collator, build, unlike)


def _tried(
    candidate: Candidate, collator: Collator, build: Callable[[], nn.Module], unlike: Sequence[tuple[str, Batch]]
) -> Trial:  # fmt: skip
    first, other = (_row(SHORT, seed) for seed in (0, 1))
    try:
        batch = candidate.batch([first])
    except Exception as error:  # it may be the user's code; VLC225 says so
        return Trial(f"the collator made no batch: {type(error).__name__}: {error}")
    model = build()
    trial = _refusal(model, batch, collator, [first])
    if not trial.problem or not _refuses(model, readable(batch)):
        with budget(collator, FEWEST), few_tiles(collator):
            trial = _compared(trial, model, candidate, collator, (first, other))
    without, replaced = _without(model, readable(batch), collator, first)
    fits = {name: _features(model, odd) for name, odd in unlike}
    return replace(trial, without=without, replaced=frozenset(replaced), fits=fits)


def _refusal(model: nn.Module, batch: Batch, collator: Collator, rows: Sequence[Conversation]) -> Trial:
    """What the model has against a batch as the run would make it; nothing if it takes the batch."""
    told = _refuses(model, batch)
    if not told:
        return Trial()
    problem = f"a tiny model refuses the batch: {told}"
    if _refuses(model, collator(rows)):
        return Trial(problem)
    counted = "features" in told and "tokens" in told
    return Trial(problem, refused="" if counted else told, mismatch=told if counted else "")


def _refuses(model: nn.Module, batch: Batch) -> str:
    """The model's own words, or empty; ids are held against the full vocabulary, which a tiny model folds."""
    ids, known = batch["input_ids"], int(getattr(model, "full_vocabulary", 0))
    if known and ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < known:
        odd = int(ids.min()) if int(ids.min()) < 0 else int(ids.max())
        return f"IndexError: input_ids hold {odd}; the model's embedding has ids 0 to {known - 1}"
    try:
        _logits(model, batch)
    except Exception as error:  # a model's forward raises whatever it likes on a batch that lacks something
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return ""


def _compared(
    trial: Trial, model: nn.Module, candidate: Candidate, collator: Collator, rows: Sequence[Conversation]
) -> Trial:
    """Change the picture, then an answer's id, then what a row is collated with."""
    first, other = rows
    batch, swapped, again = (readable(candidate.batch([row])) for row in (first, other, first))
    if any(not torch.equal(value, again[key]) for key, value in batch.items() if again[key].shape == value.shape):
        return replace(trial, problem="the collator draws from a generator of its own: no two of its batches are alike")
    logits = _logits(model, batch)
    trial = replace(trial, swapped=change(logits, _logits(model, swapped)), logits=logits.numel(), blank=_blank(batch))
    return _several(_leak(trial, model, batch, logits), model, candidate, collator, batch)


def _blank(batch: Batch) -> str:
    """A key of pixels that has one value all over; empty if there is none."""
    pixels = [(key, value.float()) for key, value in batch.items() if value.is_floating_point() and value.numel()]
    return next((key for key, value in pixels if value.min() == value.max()), "")


def _row(answer: str, seed: int) -> Conversation:
    return ask(f"trial, {answer}", "Which breed is it?", answer, picture(SIZE, seed))


def _logits(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    made: torch.Tensor = answer(model, batch).logits
    return made


def _loss(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> float:
    return float(answer(model, batch).loss)


def _leak(trial: Trial, model: nn.Module, batch: Mapping[str, torch.Tensor], logits: torch.Tensor) -> Trial:
    """Change the last supervised id but one, and see what moves before it."""
    supervised = torch.nonzero(batch["labels"][0] != IGNORE_INDEX).flatten()
    if len(supervised) < 2:
        return trial
    at = int(supervised[-2])
    ids, known = batch["input_ids"].clone(), batch["input_ids"][0]
    ids[0, at] = known[at - 1] if known[at - 1] != known[at] else known[0]
    earlier = _logits(model, {**batch, "input_ids": ids})[:, :at]
    return replace(trial, leaked=change(logits[:, :at], earlier), earlier=logits[:, :at].numel())


def _features(model: nn.Module, batch: Batch) -> int | None:
    """Features that the model makes of a batch's images; None where it refuses the batch."""
    counted: list[int] = []
    inner: Any = getattr(model, "model", model)
    look = getattr(inner, "get_image_features", None)
    if look is None:
        return None if _refuses(model, batch) else int((batch["input_ids"] >= 0).sum())

    def spied(*args: Any, **options: Any) -> Any:
        made = look(*args, **options)
        features = getattr(made, "pooler_output", made)
        each = features if isinstance(features, list | tuple) else [features]
        counted.append(sum(one.numel() // one.shape[-1] for one in each))
        return made

    forget(model)
    inner.get_image_features = spied
    try:
        return None if _refuses(model, batch) else sum(counted)
    finally:
        inner.get_image_features = look


def _without(
    model: nn.Module, batch: Batch, collator: Collator, row: Conversation
) -> tuple[dict[str, str], list[str]]:  # fmt: skip
    """What each key that the processor makes and the batch lacks would have done, and those that nothing needs."""
    whole, effects, replaced = collator([row]), {}, []
    soft = collator.processor.tokenizer.convert_tokens_to_ids(collator.dialogue.image_tokens[0])
    for key in whole:
        if key in batch or key not in collator.dialogue.batch_keys:
            continue
        effects[key], matters = _effect(model, whole, key)
        value = _of_their_ids(whole, key, batch, soft)
        if matters and value is not None and _idle(model, batch, key, value):
            replaced.append(key)
    if "attention_mask" not in batch:
        both = collator([row, _row(LONG, 1)])
        effects["attention_mask"], _ = _effect(model, both, "attention_mask")
    return effects, replaced


def _of_their_ids(whole: Batch, key: str, batch: Batch, soft: int) -> torch.Tensor | None:
    """What a key of image types would be for the collator's own ids; None for any other key."""
    images = batch["input_ids"] == soft
    if whole[key].shape != whole["input_ids"].shape or not torch.equal(whole[key] == 1, whole["input_ids"] == soft):
        return None
    return images.to(whole[key].dtype)


def _idle(model: nn.Module, batch: Batch, key: str, value: torch.Tensor) -> bool:
    """Whether a key changes no logit of the collator's own batch."""
    try:
        return change(_logits(model, batch), _logits(model, {**batch, key: value})) == 0
    except Exception:  # a model's forward raises whatever it likes
        return False


def _effect(model: nn.Module, whole: Batch, key: str) -> tuple[str, bool]:
    """The loss with and without a key, and whether it makes any difference."""
    model.train()  # some check their input only then
    try:
        complete = _loss(model, whole)
        lacking = _loss(model, {name: value for name, value in whole.items() if name != key})
    except Exception as error:  # a model's forward raises whatever it likes
        return f"the forward raises {type(error).__name__}: {' '.join(str(error).split())[:120]}", True
    finally:
        model.eval()
    if abs(lacking - complete) <= ROUNDING:
        return f"the loss stays at {complete:.4f}", False
    return f"the forward runs and gives a loss of {lacking:.4f} instead of {complete:.4f}", True


def _several(
    trial: Trial, model: nn.Module, candidate: Candidate, collator: Collator, first: Batch
) -> Trial:  # fmt: skip
    """Two rows together and apart; the first of them is collated already."""
    rows = [_row(SHORT, 0), _row(LONG, 1)]
    try:
        raw, apart = candidate.batch(rows), [first, readable(candidate.batch(rows[1:]))]
        refusal = _refusal(model, raw, collator, rows)
        together = readable(raw)
        if refusal.problem and _refuses(model, together):
            return replace(trial, problem=refusal.problem, refused=refusal.refused, mismatch=refusal.mismatch)
        trial = replace(trial, refused=trial.refused or refusal.refused)
        if len(together["input_ids"]) < len(rows) and _trained(together) < sum(map(_trained, apart)):
            return replace(trial, problem="of two rows fewer came back, and less is trained; see VLC230")
        apart = matched(together, apart, map_tokens(collator.template))
        options = _loss_options(model, together)
        pad = collator.processor.tokenizer.pad_token_id
        met = crossing(together, apart, lambda batch: answer(model, batch, **options), pad)
        if met.cause == IMAGES and _at_random(candidate, rows, raw):
            met = replace(met, change=0.0, cause="")
        trial = replace(trial, packed=met.change, packed_labels=met.labels, cause=met.cause)
        if len(together["input_ids"]) < len(rows):
            return trial
        whole, *single = (float(answer(model, batch, **options).loss) for batch in (together, *apart))
        return replace(trial, accumulated=(whole, sum(single) / (1 if options else len(single))))
    except Exception as error:  # the user's code, or a model's forward
        return replace(trial, problem=f"two rows at once: {type(error).__name__}: {' '.join(str(error).split())[:200]}")


def _trained(batch: Batch) -> int:
    return int((batch["labels"] != IGNORE_INDEX).sum())


def _at_random(candidate: Candidate, rows: Sequence[Conversation], batch: Batch) -> bool:
    """Whether the same rows have other images with other random numbers."""
    others = [candidate.batch(rows, seed) for seed in range(1, 5)]
    return any(
        other[key].shape != value.shape or not torch.equal(other[key], value)
        for other in others
        for key, value in batch.items()
        if value.is_floating_point()
    )


def _loss_options(model: nn.Module, together: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """How transformers' Trainer adds a step's loss up.

    It hands the number of labels of the whole step to a model that takes it; the loss of others it averages.
    """
    count = int((together["labels"][:, 1:] != IGNORE_INDEX).sum())
    return {"num_items_in_batch": count} if getattr(model, "accepts_loss_kwargs", True) else {}
