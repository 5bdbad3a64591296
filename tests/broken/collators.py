"""Collators as they are written by hand or shipped by frameworks, each with its own fault.

Each function takes a processor and returns a collator of rows with `messages` and `images`.
"""

from __future__ import annotations

from typing import Any

import torch

IGNORE = -100


def grey(size: tuple[int, int]) -> Any:
    """A grey picture."""
    from PIL import Image

    return Image.new("RGB", size, (120, 120, 120))


def _rendered(processor: Any, rows: list[dict[str, Any]], **options: Any) -> dict[str, torch.Tensor]:
    """The whole conversation as the template renders it, padded on the right."""
    texts = [processor.apply_chat_template(row["messages"], tokenize=False) for row in rows]
    images = [row["images"] for row in rows]
    bos = processor.tokenizer.bos_token
    if bos and texts[0].startswith(bos):
        options.setdefault("add_special_tokens", False)
    return dict(
        processor(
            text=texts,
            images=images if any(images) else None,
            return_tensors="pt",
            padding=True,
            padding_side="right",
            **options,
        )
    )


def _prompt(processor: Any, row: dict[str, Any]) -> str:
    return processor.apply_chat_template(row["messages"][:-1], tokenize=False, add_generation_prompt=True)


def _unpadded(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORE)


def prefix_without_image(processor: Any) -> Any:
    """Masks as many ids as the prompt has as text, its images one placeholder each."""

    def collate(rows):
        batch = _rendered(processor, rows)
        labels = _unpadded(batch)
        for label, row in zip(labels, rows, strict=True):
            label[: len(processor.tokenizer(_prompt(processor, row), add_special_tokens=False)["input_ids"])] = IGNORE
        return batch | {"labels": labels}

    return collate


def prefix_with_image(processor: Any) -> Any:
    """Masks as many ids as the generation prompt has, its images expanded."""

    def collate(rows):
        batch = _rendered(processor, rows)
        labels = _unpadded(batch)
        for label, row in zip(labels, rows, strict=True):
            prompt = processor(
                text=[_prompt(processor, row)], images=[row["images"]] if row["images"] else None,
                add_special_tokens=False, return_tensors="pt",
            )  # fmt: skip
            label[: prompt["input_ids"].shape[1]] = IGNORE
        return batch | {"labels": labels}

    return collate


def backward_search(processor: Any, max_length: int | None = 1024) -> Any:
    """Searches the answer's ids from the end, and labels from the turn marker before them.

    What the published Gemma 4 sample does: the answer is tokenised alone; where it is not found, the
    prompt is tokenised without its image and that many ids are masked.
    """
    tokenizer = processor.tokenizer
    marker = tokenizer.convert_tokens_to_ids("<|turn>")

    def collate(rows):
        options = {} if max_length is None else {"truncation": True, "max_length": max_length}
        batch = _rendered(processor, rows, **options)
        labels = _unpadded(batch)
        for label, ids, row in zip(labels, batch["input_ids"].tolist(), rows, strict=True):
            answer = tokenizer(row["messages"][-1]["content"][0]["text"], add_special_tokens=False)["input_ids"]
            found = next((n for n in range(len(ids) - len(answer), -1, -1) if ids[n : n + len(answer)] == answer), None)
            if found is None:
                start = len(tokenizer(_prompt(processor, row), add_special_tokens=False)["input_ids"])
            else:
                start = next((n for n in range(found, -1, -1) if ids[n] == marker), found)
            label[:start] = IGNORE
        return batch | {"labels": labels}

    return collate


def first_search(processor: Any) -> Any:
    """Labels the first place where the answer's ids stand, through the end of the turn."""
    tokenizer = processor.tokenizer

    def collate(rows):
        batch = _rendered(processor, rows)
        labels = torch.full_like(batch["input_ids"], IGNORE)
        for label, ids, row in zip(labels, batch["input_ids"], rows, strict=True):
            wanted = row["messages"][-1]["content"][0]["text"]
            ends = torch.tensor([len(tokenizer.decode(ids[:n])) for n in range(1, len(ids) + 1)])
            at = tokenizer.decode(ids).find(wanted)
            start, stop = int((ends > at).nonzero()[0]), int((ends >= at + len(wanted)).nonzero()[0]) + 2
            label[start:stop] = ids[start:stop]
        return batch | {"labels": labels}

    return collate


def everything(processor: Any) -> Any:
    """Takes all ids for labels, padding too."""

    def collate(rows):
        batch = _rendered(processor, rows)
        return batch | {"labels": batch["input_ids"].clone()}

    return collate


def trl_default(processor: Any) -> Any:
    """TRL's own, as its trainer makes it where nothing else is said."""
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    return DataCollatorForVisionLanguageModeling(processor)


# --------------------------------------------------------------------------- one change to a sound batch


def changed(collator: Any, change: Any, name: str) -> Any:
    """A sound collator whose batch is changed in one respect; it takes conversations, as ours does."""
    from vlcheck.collators.batch import Candidate

    return Candidate(lambda conversations: change(dict(collator(conversations))), name)


def dropping(key: str) -> Any:
    """Leaves one key out."""
    return lambda batch: {name: value for name, value in batch.items() if name != key}


def moved(by: int) -> Any:
    """Supervises a span of the right length that stands some ids off."""

    def change(batch):
        mask = (batch["labels"] != IGNORE).roll(by, dims=1)
        return batch | {"labels": batch["input_ids"].masked_fill(~mask, IGNORE)}

    return change


def shifted_twice(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Shifts labels by one, as the model does once more."""
    return batch | {"labels": batch["labels"].roll(-1, dims=1)}


def nothing(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Masks everything."""
    return batch | {"labels": torch.full_like(batch["labels"], IGNORE)}


def endless(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Masks the last label of every row, its end token."""
    labels = batch["labels"].clone()
    for label in labels:
        label[int((label != IGNORE).nonzero().max())] = IGNORE
    return batch | {"labels": labels}


def first_id_masked(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Masks the first id of every answer."""
    labels = batch["labels"].clone()
    for label in labels:
        label[int((label != IGNORE).nonzero().min())] = IGNORE
    return batch | {"labels": labels}


def padding_supervised(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Takes padding for labels."""
    return batch | {"labels": batch["labels"].where(batch["attention_mask"] == 1, batch["input_ids"])}


def types_on_the_other_side(key: str) -> Any:
    """Pads image types on the left, ids on the right."""

    def change(batch):
        types = batch[key].clone()
        for row, mask in zip(types, batch["attention_mask"], strict=True):
            row.copy_(row.roll(int((mask == 0).sum())))
        return batch | {key: types}

    return change


def cut(length: int) -> Any:
    """Cuts every row at so many ids, whatever stands there."""

    def change(batch):
        width = batch["input_ids"].shape[1]
        return {
            key: value[:, :length] if value.dim() > 1 and value.shape[1] == width else value
            for key, value in batch.items()
        }

    return change


def blind(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Hands on grey pictures of the right shape."""
    return batch | {key: torch.zeros_like(value) for key, value in batch.items() if key == "pixel_values"}


def mask_of_ones(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Says of padding that it is read."""
    return batch | {"attention_mask": torch.ones_like(batch["attention_mask"])}


def started_twice(first: int) -> Any:
    """Puts one more begin-of-text token first."""

    def change(batch):
        added = {"input_ids": first, "attention_mask": 1, "labels": IGNORE}
        width = batch["input_ids"].shape[1]
        return {
            key: torch.nn.functional.pad(value, (1, 0), value=added.get(key, 0))
            if value.dim() == 2 and value.shape[1] == width and not value.is_floating_point() else value
            for key, value in batch.items()
        }  # fmt: skip

    return change


def packing(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Puts all rows behind each other into one."""
    real = batch["attention_mask"].bool()
    return {
        key: value[real][None] if value.shape[:2] == real.shape and not value.is_floating_point() else value
        for key, value in batch.items()
    }


def packing_many(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Packs as soon as there are three rows."""
    return packing(batch) if len(batch["input_ids"]) > 2 else batch


def sound(processor: Any) -> Any:
    """Ours, for those who hand it rows of a data set."""
    from vlcheck.data.conversation import Conversation, Picture, Turn
    from vlcheck.model.families import FAMILIES
    from vlcheck.processing.collator import Collator

    kind = type(processor).__name__
    own = Collator(processor, next(f.dialogue for f in FAMILIES if f.fallback and f.fallback.processor == kind))

    def read(row):
        images = iter(row["images"])
        turns = (
            Turn(
                message["role"],
                tuple(part["text"] if part["type"] == "text" else Picture(next(images)) for part in message["content"]),
            )
            for message in row["messages"]
        )
        return Conversation(tuple(turns))

    return lambda rows: own([read(row) for row in rows])


def raising(processor: Any) -> Any:
    """Fails on the first row that it gets."""

    def collate(rows):
        raise KeyError("caption")

    return collate


def first_ids_supervised(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Supervises the first three ids of every row."""
    labels = batch["labels"].clone()
    labels[:, :3] = batch["input_ids"][:, :3]
    return batch | {"labels": labels}


def unmasked(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Supervises everything but padding."""
    return batch | {"labels": _unpadded(batch)}


def header_supervised(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Supervises one id too early."""
    labels = batch["labels"].clone()
    for label, ids in zip(labels, batch["input_ids"], strict=True):
        first = int((label != IGNORE).nonzero().min())
        label[first - 1] = ids[first - 1]
    return batch | {"labels": labels}


def soft_token_lost(soft: int, types: str) -> Any:
    """Puts a word in the place of one soft token."""

    def change(batch):
        ids, kinds = batch["input_ids"].clone(), batch[types].clone()
        for row, kind in zip(ids, kinds, strict=True):
            for at in (row == soft).nonzero()[-1:]:
                row[at], kind[at] = row[-1].clone(), 0
        return batch | {"input_ids": ids, types: kinds}

    return change


def other_prompt(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Puts another word in the place of the fourth id."""
    ids = batch["input_ids"].clone()
    ids[:, 2] = ids[:, 3]
    return batch | {"input_ids": ids}


def answer_marked_as_prefix(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Gives the answer the token type of the question."""
    return batch | {"token_type_ids": torch.zeros_like(batch["token_type_ids"])}


# --------------------------------------------------------------------------- what stands beside labels


def int32_labels(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Labels of a type that no loss takes."""
    return batch | {"labels": batch["labels"].int()}


def zeros_for_ignore(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Fills labels with 0 instead of -100."""
    return batch | {"labels": batch["labels"].where(batch["labels"] != IGNORE, 0)}


def changed_rows(collator: Any, change: Any, name: str) -> Any:
    """A sound collator that is given other conversations than those that it should."""
    from vlcheck.collators.batch import Candidate

    return Candidate(lambda conversations: collator(change(list(conversations))), name)


def with_answers(change: Any) -> Any:
    """Rewrites every answer."""
    from dataclasses import replace

    def changed(rows):
        return [
            replace(row, turns=tuple(
                replace(turn, content=(change(turn.text),)) if turn.role == "assistant" else turn for turn in row.turns
            ))
            for row in rows
        ]  # fmt: skip

    return changed


def dropping_rows(rows: list[Any]) -> list[Any]:
    """Leaves the last of several rows out."""
    return rows[:-1] or rows


def text_only_refused(rows: list[Any]) -> list[Any]:
    """Takes no row without an image."""
    if not all(row.pictures for row in rows):
        raise ValueError("no image")
    return rows


def with_images(change: Any) -> Any:
    """Changes the images of every row: a function of the list of them."""
    from dataclasses import replace

    from vlcheck.data.conversation import Picture

    def changed(rows):
        made = []
        for row in rows:
            images = iter(change(list(row.pictures)))
            contents = [
                tuple(next(images) if isinstance(part, Picture) else part for part in turn.content)
                for turn in row.turns
            ]
            turns = (replace(turn, content=own) for turn, own in zip(row.turns, contents, strict=True))
            made.append(replace(row, turns=tuple(turns)))
        return made

    return changed


def redrawn(change: Any) -> Any:
    """Changes every image: a function of a PIL image."""
    from vlcheck.data.conversation import Picture
    from vlcheck.data.images import open_picture

    return with_images(lambda images: [Picture(change(open_picture(image)), str(image)) for image in images])


def channels_swapped(image: Any) -> Any:
    """Blue for red."""
    from PIL import Image

    return Image.merge("RGB", image.convert("RGB").split()[::-1])


def grid_swapped(key: str) -> Any:
    """Height and width of the grid swapped."""

    def change(batch):
        return batch | ({key: batch[key][..., [*range(batch[key].shape[-1] - 2), -1, -2]]} if key in batch else {})

    return change
