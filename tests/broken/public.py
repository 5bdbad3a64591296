"""Collators of public training code, restated in our own words: how each finds what it trains.

Sources: trl 1.16 (sft_trainer.py), unsloth_zoo 2026.10.9 (vision_utils.py), LLaMA-Factory 0.9.5
(processor/supervised.py), Axolotl 0.19 (processing_strategies.py), ms-swift 4.6 (template/base.py), QwenLM/Qwen3-VL
(qwen-vl-finetune) and the fine-tuning notebooks of google/paligemma; places as in `vlcheck.config.frameworks`. Each
takes a processor and returns a collator of rows with `messages` and `images`.
"""

from __future__ import annotations

from typing import Any

import torch

from tests.broken.collators import IGNORE, _rendered, _unpadded
from vlcheck.model.families import FAMILIES

Collate = Any


def _end(processor: Any) -> int:
    kind = type(processor).__name__
    dialogue = next(f.dialogue for f in FAMILIES if f.fallback and f.fallback.processor == kind)
    return processor.tokenizer.convert_tokens_to_ids(dialogue.end)


def _response_header(processor: Any) -> list[int]:
    """Ids of what stands before an answer."""
    rows = [{"role": "user", "content": [{"type": "text", "text": "Quiz"}]}]
    asked = processor.apply_chat_template(rows, tokenize=False, add_generation_prompt=True)
    tail = asked[asked.rindex("Quiz") + len("Quiz") :]
    return processor.tokenizer(tail[tail.rfind("<") :], add_special_tokens=False)["input_ids"]


def _responses(processor: Any, batch: dict[str, torch.Tensor], header: list[int], end: int, *, newline: bool = False):
    """Labels from behind each header through the next end token, and one id more where a newline is trained."""
    labels = torch.full_like(batch["input_ids"], IGNORE)
    for label, ids in zip(labels, batch["input_ids"].tolist(), strict=True):
        at = 0
        while at + len(header) <= len(ids):
            if ids[at : at + len(header)] != header:
                at += 1
                continue
            start = at + len(header)
            stop = ids.index(end, start) + 1 if end in ids[start:] else len(ids)
            stop = min(stop + newline, len(ids))
            label[start:stop] = torch.tensor(ids[start:stop])
            at = stop
    return labels


def responses_only(processor: Any) -> Collate:
    """Unsloth's `train_on_responses_only`: searches the ids of the response part, trains through the next end."""
    header, end = _response_header(processor), _end(processor)

    def collate(rows):
        batch = _rendered(processor, rows)
        return batch | {"labels": _responses(processor, batch, header, end)}

    return collate


def qwen_official(processor: Any) -> Collate:
    """QwenLM's fine-tuning code: header ids 77091 and newline, trains the end token and the newline behind it."""
    header = processor.tokenizer("assistant\n", add_special_tokens=False)["input_ids"]
    end = _end(processor)

    def collate(rows):
        batch = _rendered(processor, rows)
        marked = [processor.tokenizer.convert_tokens_to_ids("<|im_start|>"), *header]
        return batch | {"labels": _responses(processor, batch, marked, end, newline=True)}

    return collate


def qwen_positions(processor: Any, model: Any) -> Collate:
    """QwenLM's again, which computes three-dimensional positions itself and hands no token types on."""
    inner = qwen_official(processor)

    def collate(rows):
        batch = inner(rows)
        types = batch.pop("mm_token_type_ids")
        positions, _ = model.model.get_rope_index(
            batch["input_ids"], mm_token_type_ids=types, image_grid_thw=batch.get("image_grid_thw"),
            attention_mask=batch["attention_mask"],
        )  # fmt: skip
        return batch | {"position_ids": positions}

    return collate


def resizing_first(limit: int) -> Any:
    """Unsloth's and LLaMA-Factory's: images larger than a limit are shrunk before the processor sees them."""

    def make(processor: Any) -> Collate:
        inner = responses_only(processor)

        def collate(rows):
            for row in rows:
                row["images"] = [image.resize((min(image.width, limit), min(image.height, limit)))
                                 for image in row["images"]]  # fmt: skip
            return inner(rows)

        return collate

    return make


def turn_by_turn(processor: Any) -> Collate:
    """LLaMA-Factory's and ms-swift's: every turn's ids get labels or -100 as they are put together."""
    end, header = _end(processor), _response_header(processor)

    def collate(rows):
        batch = _rendered(processor, rows)
        labels = torch.full_like(batch["input_ids"], IGNORE)
        for label, ids in zip(labels, batch["input_ids"].tolist(), strict=True):
            trained = False
            for at, number in enumerate(ids):
                if trained:
                    label[at] = number
                if number == end:
                    trained = False
                elif ids[max(0, at + 1 - len(header)) : at + 1] == header:
                    trained = True
        return batch | {"labels": labels}

    return collate


def completion_only(processor: Any) -> Collate:
    """TRL's with prompt and completion: each is processed by itself, the completion's ids are trained."""

    def collate(rows):
        batch = _rendered(processor, rows)
        labels = _unpadded(batch)
        for label, row in zip(labels, rows, strict=True):
            text = processor.apply_chat_template(row["messages"][:-1], tokenize=False, add_generation_prompt=True)
            prompt = processor(text=[text], images=[row["images"]] if row["images"] else None,
                               add_special_tokens=False, return_tensors="pt")  # fmt: skip
            label[: prompt["input_ids"].shape[1]] = IGNORE
        return batch | {"labels": labels}

    return collate


def paligemma_official(processor: Any) -> Collate:
    """The notebooks' for PaliGemma: question as text, answer as suffix; the processor makes the labels."""

    def collate(rows):
        def said(message):
            return "".join(part.get("text", "") for part in message["content"] if part["type"] == "text")

        texts = ["<image>" * len(row["images"]) + said(row["messages"][0]) for row in rows]
        return dict(
            processor(
                text=texts, images=[row["images"] for row in rows], suffix=[said(row["messages"][1]) for row in rows],
                padding="longest", return_tensors="pt",
            )
        )  # fmt: skip

    return collate


def axolotl(processor: Any) -> Collate:
    """Axolotl's role boundaries: assistant turns with their end token, everything else masked, image ids too."""
    inner = turn_by_turn(processor)

    def collate(rows):
        batch = inner(rows)
        image = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
        return batch | {"labels": batch["labels"].masked_fill(batch["input_ids"] == image, IGNORE)}

    return collate
