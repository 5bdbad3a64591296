"""The faults whose harm is measured, each a small change to the real code, and what they are expected to show.

This table, `SEEDS` and `LEAST_EFFECT` were committed before the first run of the sweep.

Dimensions: B rows, T tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from vlcheck.library_settings import CheckpointingKwargs
from vlcheck.model.family import CLIP_BOUNDS
from vlcheck.processing.chat_template import RowText
from vlcheck.processing.collator import Batch, Collated, Collator
from vlcheck.processing.labels import IGNORE_INDEX
from vlcheck.spec import RunSpec
from vlcheck.training.step import autocast

SEEDS = (0, 1, 2, 3, 4)
LEAST_EFFECT = 0.05
"""Smallest loss of accuracy that is worth detecting, as a share of the pictures."""

SpoilRows = Callable[[Sequence[RowText]], Sequence[RowText]]
SpoilBatch = Callable[[Batch, Collator], Batch]


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a run; whatever is not named is as in the sound run."""

    says: str
    rules: tuple[str, ...] = ()
    """Codes of the rules that find it."""
    rows: SpoilRows | None = None
    """Changes rows before the processor sees them."""
    batch: SpoilBatch | None = None
    """Changes what the collator makes for training."""
    spec: Callable[[RunSpec], RunSpec] | None = None
    """Changes the description of the run, for training and evaluation."""
    model: Callable[[Any], Any] | None = None
    """Changes the base before adapters are attached, in training alone."""
    training: Callable[[], contextlib.AbstractContextManager[Any]] | None = None
    """Holds while the run trains."""
    asked: Callable[[RunSpec], RunSpec] | None = None
    """Changes the description for evaluation alone."""
    asking: Callable[[], contextlib.AbstractContextManager[Any]] | None = None
    """Holds while the run is evaluated."""
    saved: Callable[[Path], None] | None = None
    """Changes the folder of the saved adapter."""


@dataclass(frozen=True)
class Spoilt(Collator):
    """The run's collator with one fault."""

    on_rows: SpoilRows | None = None
    on_batch: SpoilBatch | None = None

    def collate_rows(self, rows: Sequence[RowText]) -> Collated:
        """As the collator does, then spoilt."""
        made = super().collate_rows(self.on_rows(rows) if self.on_rows else rows)
        return replace(made, batch=self.on_batch(dict(made.batch), self)) if self.on_batch else made


def spoilt(collator: Collator, fault: Fault) -> Collator:
    """The same collator with a fault."""
    kept = {name: getattr(collator, name) for name in collator.__dataclass_fields__ if name != "template"}
    return Spoilt(**kept, on_rows=fault.rows, on_batch=fault.batch)


# --------------------------------------------------------------------------- labels


def _labelled(batch: Batch, where_BT: torch.Tensor) -> Batch:
    return {**batch, "labels": batch["input_ids"].where(where_BT, IGNORE_INDEX)}


def _everything(batch: Batch, collator: Collator) -> Batch:
    return _labelled(batch, batch["attention_mask"] > 0)


def _prompt(batch: Batch, collator: Collator) -> Batch:
    return _labelled(batch, (batch["attention_mask"] > 0) & (batch["mm_token_type_ids"] == 0))


def _surplus(batch: Batch, collator: Collator) -> Batch:
    """The mask is that of the text before its one placeholder was expanded."""
    labels_BT = batch["labels"]
    surplus_B = (batch["mm_token_type_ids"] == 1).sum(1) - 1
    at_BT = torch.arange(labels_BT.shape[1])[None] + surplus_B[:, None]
    inside_BT = at_BT < labels_BT.shape[1]
    where_BT = labels_BT.gather(1, at_BT.clamp(max=labels_BT.shape[1] - 1)) != IGNORE_INDEX
    return _labelled(batch, where_BT & inside_BT & (batch["attention_mask"] > 0))


def _off_by_one(batch: Batch, collator: Collator) -> Batch:
    return {**batch, "labels": batch["labels"].roll(-1, dims=1)}


def _no_end(batch: Batch, collator: Collator) -> Batch:
    end = int(collator.processor.tokenizer.convert_tokens_to_ids(collator.dialogue.end))
    return {**batch, "labels": batch["labels"].masked_fill(batch["labels"] == end, IGNORE_INDEX)}


def _prompts_copy(batch: Batch, collator: Collator) -> Batch:
    """The span from the first header of a turn on, the user's, to the first end of a turn."""
    ids_BT = batch["input_ids"]
    end = int(collator.processor.tokenizer.convert_tokens_to_ids(collator.dialogue.end))
    before_end_BT = (ids_BT == end).cumsum(1) - (ids_BT == end).int() == 0
    behind_image_BT = batch["mm_token_type_ids"].flip(1).cumsum(1).flip(1) == 0
    return _labelled(batch, before_end_BT & behind_image_BT & (batch["attention_mask"] > 0))


def _truncated(batch: Batch, collator: Collator) -> Batch:
    """Only the first two ids of each answer are learnt."""
    own_BT = batch["labels"] != IGNORE_INDEX
    return {**batch, "labels": batch["labels"].where(own_BT.cumsum(1) <= 2, IGNORE_INDEX)}


def _rotated(batch: Batch, collator: Collator) -> Batch:
    """Each row's labels are the next row's answer, id by id; its ids are its own."""
    labels_BT = batch["labels"].clone()
    answers = [row[row != IGNORE_INDEX] for row in batch["labels"]]
    for number, own in enumerate(labels_BT):
        at = (own != IGNORE_INDEX).nonzero().flatten()
        other = answers[(number + 1) % len(answers)][: len(at)]
        own[at] = IGNORE_INDEX
        own[at[: len(other)]] = other
    return {**batch, "labels": labels_BT}


# --------------------------------------------------------------------------- pictures


def _shuffled(rows: Sequence[RowText]) -> Sequence[RowText]:
    """Every row has another row's picture."""
    return [replace(row, pictures=other.pictures) for row, other in zip(rows, [*rows[1:], *rows[:1]], strict=True)]


def _no_types(batch: Batch, collator: Collator) -> Batch:
    return {name: values for name, values in batch.items() if name != "mm_token_type_ids"}


def _zeroed(batch: Batch, collator: Collator) -> Batch:
    return {**batch, "pixel_values": torch.zeros_like(batch["pixel_values"])}


@contextlib.contextmanager
def _right_padded() -> Iterator[None]:
    def prompts(self: Collator, conversations: Any, turns: Any) -> Batch:
        return self.tensors(
            [self.template.prompt(c, turn) for c, turn in zip(conversations, turns, strict=True)], side="right"
        )

    with mock.patch.object(Collator, "prompts", prompts):
        yield


# --------------------------------------------------------------------------- placement


def _frozen(part: str, pattern: str) -> Callable[[RunSpec], RunSpec]:
    """No adapter on a part; the intent says so too, since `train` stops at the third step where they differ."""
    return lambda spec: replace(
        spec, lora=replace(spec.lora, exclude_modules=pattern), intent=replace(spec.intent, **{part: "freeze"})
    )


VISION, PROJECTOR, LANGUAGE = r".*vision_tower.*", r".*embed_vision.*", r".*language_model.*"


def _scale_bounds(model: Any, factor: float) -> None:
    for module in model.modules():
        if type(module).__name__ == "Gemma4ClippableLinear":
            for bound in CLIP_BOUNDS:
                getattr(module, bound).mul_(factor)


def _unclipped(model: Any) -> None:
    _scale_bounds(model, float("inf"))


def _halved(model: Any) -> None:
    _scale_bounds(model, 0.5)


def _doubled(model: Any) -> None:
    _scale_bounds(model, 2.0)


def _drop_language(folder: Path) -> None:
    """The saved deltas of the language model are zero."""
    from safetensors.torch import load_file, save_file

    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    for name in tensors:
        if "language_model" in name:
            tensors[name] = torch.zeros_like(tensors[name])
    save_file(tensors, file, metadata={"format": "pt"})


# --------------------------------------------------------------------------- arithmetic


@contextlib.contextmanager
def _miscounted() -> Iterator[None]:
    """Each micro-batch counts as a whole step, as where its mean is taken without dividing by their number."""
    from vlcheck.training import loop

    own = loop.weighed
    with mock.patch.object(loop, "weighed", lambda micros, supervised: [(b, 1.0) for b, _ in own(micros, supervised)]):
        yield


@contextlib.contextmanager
def _halves() -> Iterator[None]:
    """fp16 without a scaler of gradients."""
    from vlcheck.training import loop

    with mock.patch.object(loop, "autocast", lambda precision, device: autocast("fp16", device)):
        yield


@contextlib.contextmanager
def _reentrant() -> Iterator[None]:
    """Reentrant checkpointing whose inputs need no gradient, as where `enable_input_require_grads` was left out."""
    from transformers import PreTrainedModel

    with mock.patch.object(PreTrainedModel, "enable_input_require_grads"):
        yield


def _cut(spec: RunSpec) -> RunSpec:
    """Checkpointing that needs inputs with gradients; an adapter on what embeds patches would give them one.

    Nothing is said of what vision is meant to do, since `train` stops at the third step where that does not move.
    """
    kwargs = CheckpointingKwargs(use_reentrant=True)
    return replace(
        spec, lora=replace(spec.lora, exclude_modules=r".*patch_embedder.*"), intent=replace(spec.intent, vision=None),
        training=replace(spec.training, gradient_checkpointing=True, gradient_checkpointing_kwargs=kwargs),
    )  # fmt: skip


def _faster(spec: RunSpec) -> RunSpec:
    return replace(spec, training=replace(spec.training, learning_rate=10 * spec.training.learning_rate))


def _fourfold(spec: RunSpec) -> RunSpec:
    return replace(
        spec,
        training=replace(
            spec.training, gradient_accumulation_steps=4,
            per_device_train_batch_size=max(1, spec.training.per_device_train_batch_size // 4),
        ),
    )  # fmt: skip


def _vision_whole(spec: RunSpec) -> RunSpec:
    assert spec.quantization is not None
    return replace(
        spec,
        quantization=replace(
            spec.quantization, llm_int8_skip_modules=("lm_head", "model.vision_tower", "model.embed_vision")
        ),
    )


def _other_words(spec: RunSpec) -> RunSpec:
    return replace(spec, data=replace(spec.data, instruction="Describe the animal in this picture."))


FAULTS: dict[str, Fault] = {
    "none": Fault("the sound run"),
    # the five that the gate must notice come first
    "off by one": Fault("labels stand one place before their ids", ("VLC212",), batch=_off_by_one),
    "images zeroed": Fault("the image never reaches the model: its pixels are zero", ("VLC216",), batch=_zeroed),
    "end not learnt": Fault("the token that ends a turn is not supervised", ("VLC208",), batch=_no_end),
    "language dropped": Fault("the language model's saved deltas are lost", ("VLC723",), saved=_drop_language),
    "images shuffled": Fault("every row has another row's picture", ("VLC235",), rows=_shuffled),
    # labels
    "prompt supervised": Fault("the prompt's text is supervised", ("VLC202",), batch=_prompt),
    "everything supervised": Fault("every id is supervised, soft tokens too", ("VLC207",), batch=_everything),
    "mask shifted": Fault("the mask is short by the soft tokens", ("VLC201",), batch=_surplus),
    "anchor in prompt": Fault("the span is found in the prompt", ("VLC213",), batch=_prompts_copy),
    "answers rotated": Fault("each row has the next row's labels", ("VLC232",), batch=_rotated),
    "answers truncated": Fault("two ids of each answer are learnt", ("VLC203",), batch=_truncated),
    # placement
    "vision frozen": Fault("no adapter on the vision tower", ("VLC402",), spec=_frozen("vision", VISION)),
    "language frozen": Fault("no adapter on the language model", ("VLC401",), spec=_frozen("language", LANGUAGE)),
    "projector frozen": Fault("no adapter on the projector", ("VLC403",), spec=_frozen("projector", PROJECTOR)),
    "clip replaced": Fault("trained without clamps, asked with them", ("VLC104",), model=_unclipped),
    "bounds halved": Fault("trained with half the bounds, asked with the whole", model=_halved),
    "bounds doubled": Fault("trained with twice the bounds, asked with the whole", model=_doubled),
    # batches and prompts
    "types dropped": Fault("the batch lacks mm_token_type_ids", ("VLC204",), batch=_no_types),
    "other prompt": Fault("asked in other words than trained", ("VLC218",), asked=_other_words),
    "right padding": Fault("prompts are padded on the right for generation", ("VLC239",), asking=_right_padded),
    # arithmetic
    "accumulation miscounted": Fault(
        "four micro-batches, their losses added up instead of averaged", ("VLC224",), spec=_fourfold,
        training=_miscounted,
    ),
    "reentrant checkpointing": Fault(
        "reentrant checkpointing, inputs without gradient, patches embedded without adapter", ("VLC406",), spec=_cut,
        training=_reentrant,
    ),
    "rate times ten": Fault("ten times the learning rate", ("VLC806",), spec=_faster),
    "vision in 16 bits": Fault(
        "the sound run has its vision tower in 4 bits; here it is left out of that", ("VLC410",), spec=_vision_whole
    ),
    "fp16": Fault("fp16 without a gradient scaler", ("VLC801",), training=_halves),
}  # fmt: skip
INJECTED = tuple(FAULTS)[1:6]
"""Faults that the stand-in gate must notice."""
