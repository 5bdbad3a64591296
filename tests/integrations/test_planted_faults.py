"""Faults that no config shows, each planted in a tiny real run: found with its cause, and nothing in the sound run."""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import get_peft_model

from tests.broken import collators, patches
from tests.integrations import live_samples as live
from vlcheck import Severity


def patched_wrapper(parts: live.Parts) -> None:
    """The tower's wrappers call their inner layer and clamp nothing."""
    for module in parts.model.modules():
        if isinstance(module, patches.WRAPPER):
            module.forward = types.MethodType(lambda self, x: self.linear(x), module)


def off_by_one(parts: live.Parts) -> None:
    """A collator that shifts labels, which the model shifts once more."""
    inner, by = parts.collator, 1

    def collate(rows):
        batch = dict(inner(rows))
        batch["labels"] = torch.roll(batch["labels"], -by, dims=1)
        return batch

    parts.collator = collate


def span_off_by_one(parts: live.Parts) -> None:
    """A collator whose span begins one id late."""
    inner = parts.collator
    parts.collator = lambda rows: collators.first_id_masked(dict(inner(rows)))


def attached_twice(parts: live.Parts) -> None:
    parts.model = get_peft_model(parts.model, live.lora(target_modules=r".*language_model.*k_proj", r=2)).train()


def frozen_after(parts: live.Parts) -> None:
    for name, parameter in parts.model.named_parameters():
        if "vision" in name:
            parameter.requires_grad = False


def early_optimizer(parts: live.Parts) -> None:
    """Built from the base, whose parameters are frozen once adapters are attached."""
    base = live.base()
    parts.optimizer = torch.optim.AdamW(base.parameters(), lr=1e-3)
    parts.model = get_peft_model(base, live.lora()).train()


def images_dropped(parts: live.Parts) -> None:
    """A `map` that keeps the messages alone."""
    parts.rows = [{"messages": row["messages"][:], "images": []} for row in parts.rows]
    parts.collator = text_alone(parts.processor)


def text_alone(processor: Any) -> Callable[[list[Any]], Any]:
    """What collates whatever text is there."""
    inner = collators.sound(processor)

    def collate(rows):
        if all(row["images"] for row in rows):
            return inner(rows)
        bare = []
        for row in rows:
            asked, said = copy.deepcopy(row["messages"])
            asked["content"] = [part for part in asked["content"] if part["type"] == "text"]
            bare.append({"messages": [asked, said], "images": []})
        return inner(bare)

    return collate


def other_pixels(parts: live.Parts) -> None:
    """Evaluation's rows go through a processor of other settings."""
    other = live.processor()
    other.image_processor.do_normalize, other.image_processor.image_mean = True, [0.5, 0.5, 0.5]
    other.image_processor.image_std = [0.5, 0.5, 0.5]
    inner, evaluating = parts.collator, collators.sound(other)
    names = {id(row["images"][0]) for row in parts.evaluated}
    parts.collator = lambda rows: (evaluating if id(rows[0]["images"][0]) in names else inner)(rows)


def not_training(parts: live.Parts) -> None:
    parts.model.eval()


def other_tokenizer(parts: live.Parts) -> None:
    """Labels are the answer's ids by a tokenizer of its own, put where the answer stands."""
    inner, width = parts.collator, 512

    def other(words: str, count: int) -> list[int]:
        return [(7 * ord(letter)) % width + 3 for letter in (words * count)[:count]]

    def collate(rows):
        batch = dict(inner(rows))
        for label, row in zip(batch["labels"], rows, strict=True):
            at = torch.nonzero(label != -100).flatten()
            said = row["messages"][-1]["content"][0]["text"]
            label[at] = torch.tensor(other(said, len(at)))
        return batch

    parts.collator = collate


def starved(parts: live.Parts) -> None:
    """Reentrant checkpointing, switched on behind PEFT's back, with inputs that need no gradient."""
    base = parts.model.get_base_model()
    base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})


def never_filled(parts: live.Parts) -> None:
    """Pixels as `torch.zeros` made them."""
    inner = parts.collator
    parts.collator = lambda rows: {**inner(rows), "pixel_values": torch.zeros_like(inner(rows)["pixel_values"])}


def last_image(parts: live.Parts) -> None:
    """A closure over a loop's variable: every row shows what the last one ought to."""
    inner = parts.collator
    parts.collator = lambda rows: inner([{**row, "images": rows[-1]["images"]} for row in rows])


def image_before(parts: live.Parts) -> None:
    """Images and texts that were gathered one off."""
    inner = parts.collator
    parts.collator = lambda rows: inner(
        [{**row, "images": other["images"]} for row, other in zip(rows, [rows[-1], *rows], strict=False)]
    )


def shifted_by_hand(parts: live.Parts) -> None:
    """A collator's object, bound by a partial, that puts each label one place late."""
    inner = parts.collator

    class Late:
        def __call__(self, rows):
            batch = dict(inner(rows))
            return batch | {"labels": torch.nn.functional.pad(batch["labels"], (1, 0), value=-100)[:, :-1]}

    parts.collator = functools.partial(Late())


def halves_frozen(parts: live.Parts) -> None:
    """Freezes what it takes for the base: all but `lora_A`."""
    for name, parameter in parts.model.named_parameters():
        parameter.requires_grad = "lora_A" in name


def copied_model(parts: live.Parts) -> None:
    """The optimizer steps the model that was copied, not the copy that trains."""
    parts.built()
    parts.model = copy.deepcopy(parts.model)


def tower_evaluates(parts: live.Parts) -> None:
    """The frozen tower is put into evaluation mode, with its adapters."""
    for name, module in parts.model.named_modules():
        if name.endswith("vision_tower"):
            module.eval()


def next_answers(parts: live.Parts) -> None:
    """Labels of the row before."""
    inner = parts.collator
    parts.collator = lambda rows: {**inner(rows), "labels": inner(rows)["labels"].roll(1, dims=0)}


def tower_without_gradient(parts: live.Parts) -> None:
    """The tower runs under `torch.no_grad`, as it did when it was frozen."""
    tower = parts.model.get_base_model().model.vision_tower
    tower.forward = torch.no_grad()(tower.forward)


def evaluation_in_grey(parts: live.Parts) -> None:
    """Evaluation converts its images otherwise."""
    inner, names = parts.collator, {id(row["images"][0]) for row in parts.evaluated}

    def grey(row):
        return {**row, "images": [image.convert("L").convert("RGB") for image in row["images"]]}

    parts.collator = lambda rows: inner([grey(row) if id(row["images"][0]) in names else row for row in rows])


FAULTS: dict[Callable[[live.Parts], None], tuple[str, str]] = {
    patched_wrapper: ("VLC104", "nothing clamps any more"),
    off_by_one: ("VLC212", "labels stand -1 ids from where they ought to"),
    span_off_by_one: ("VLC206", "ids of the answer are supervised"),
    attached_twice: ("VLC001", "2 PEFT models stand one inside another"),
    frozen_after: ("VLC002", "They were frozen after they were attached"),
    early_optimizer: ("VLC003", "it was built before they were made"),
    images_dropped: ("VLC006", "ask for 4 images, and the rows hold 0"),
    other_pixels: ("VLC011", "training: images as the processor makes them; evaluation: pixel_values differs"),
    not_training: ("VLC007", "the model is in evaluation mode"),
    other_tokenizer: ("VLC005", "They were made by another tokenizer"),
    starved: ("VLC406", "under reentrant checkpointing"),
    never_filled: ("VLC006", "the pixels of the first 1 batches are one value all over"),
    last_image: ("VLC235", "the images of the last row stand in every row"),
}
BROTHERS: dict[Callable[[live.Parts], None], tuple[str, str]] = {
    image_before: ("VLC235", "each row has the images of the row before it"),
    shifted_by_hand: ("VLC212", "labels stand +1 ids from where they ought to"),
    halves_frozen: ("VLC002", "9 of 18 tensors of active adapters require no gradient"),
    copied_model: ("VLC003", "18 of 18 trained parameters are in no group of the optimizer"),
    tower_evaluates: ("VLC007", "a part is in evaluation mode: 4 of 9 dropout layers"),
    next_answers: ("VLC005", "They were made by another tokenizer, or of another text"),
    tower_without_gradient: ("VLC406", "vision tower: no gradient reaches 4 of 4 trained modules"),
    evaluation_in_grey: ("VLC011", "training: images as the processor makes them; evaluation: pixel_values differs"),
}
"""Of the same kinds, written otherwise."""
LIKE_THE_RULES_OWN = {span_off_by_one, early_optimizer, frozen_after, not_training, images_dropped, other_tokenizer}
"""Their rules have a broken run in `test_live_rules.py` too."""


@pytest.mark.parametrize(
    "plant",
    [
        pytest.param(plant, marks=pytest.mark.slow) if plant in {*LIKE_THE_RULES_OWN, *BROTHERS} else plant
        for plant in (*FAULTS, *BROTHERS)
    ],
    ids=lambda plant: plant.__name__,
)
def test_each_fault_is_found_with_its_cause(plant):
    """The root of what is found is the fault's own rule, and its message says what happened."""
    code, cause = (FAULTS | BROTHERS)[plant]

    report = live.judged(plant)

    roots = {o.rule.code: o for o in report.found(Severity.ERROR) if not o.explained_by}
    assert set(roots) == {code}, report.text()
    assert cause in roots[code].findings[0].message, roots[code].findings[0].message


def test_the_sound_run_is_silent():
    """No finding at all, and every rule of this file looked at something."""
    report = live.judged()

    assert not report.found(), report.text()
    passed = {o.rule.code for o in report.outcomes if o.examined}
    assert {code for code, _ in FAULTS.values()} <= passed
