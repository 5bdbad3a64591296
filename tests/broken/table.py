"""Collators with the verdict that each deserves: the table of docs/labels.md, a test a row."""

from __future__ import annotations

import io
import random
from collections import UserDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from PIL import Image, ImageEnhance, ImageOps
from transformers import BatchEncoding

from tests.broken import collators, public
from tests.broken.collators import IGNORE, channels_swapped, redrawn, with_answers, with_images
from vlcheck.collators.batch import Candidate
from vlcheck.collators.tiny_model import build_batch_model
from vlcheck.data.conversation import Conversation, Picture, Turn
from vlcheck.model.catalogue import lookup
from vlcheck.model.families import family_of
from vlcheck.processing.collator import Collator
from vlcheck.processing.fallback import build_fallback

QWEN, QWEN25 = "Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen2.5-VL-3B-Instruct"
GEMMA3, GEMMA4 = "google/gemma-3-4b-it", "google/gemma-4-E4B-it"
LLAVA, INTERN = "llava-hf/llava-1.5-7b-hf", "OpenGVLab/InternVL3-1B-hf"
SMOL, PALI = "HuggingFaceTB/SmolVLM2-256M-Video-Instruct", "google/paligemma2-3b-pt-224"
EVERY = (QWEN, GEMMA3, LLAVA, QWEN25, GEMMA4, INTERN, SMOL)
LIGHT = (QWEN, LLAVA, QWEN25, PALI)
"""Families whose images take few tiles or pixels."""
CHAT = (QWEN, GEMMA3, QWEN25, GEMMA4, INTERN)
GRIDS = (QWEN, QWEN25)

Make = Callable[[str], Any]


@dataclass(frozen=True)
class Entry:
    """A collator, where it is tried, and what is wrong with it."""

    name: str
    make: Make
    families: tuple[str, ...]
    roots: frozenset[str]
    """Codes of errors and warnings of which at least one is named as a cause; empty for a sound collator."""
    model: bool = False
    """The verdict needs the tiny model."""
    rows: tuple[Conversation, ...] = ()


@cache
def processor(hub_id: str) -> Any:
    """The family's processor, built once."""
    values = lookup(hub_id).config
    return build_fallback(family_of(values), values)


@cache
def own(hub_id: str, **options: Any) -> Collator:
    """Our collator over it."""
    return Collator(processor(hub_id), family_of(lookup(hub_id).config).dialogue, **options)


def batch(change: Any) -> Make:
    """Our collator, its batch changed."""
    return lambda hub_id: Candidate(lambda rows: change(dict(own(hub_id)(rows))), "entry")


def rows(change: Any) -> Make:
    """Our collator, given other conversations."""
    return lambda hub_id: Candidate(lambda given: own(hub_id)(change(list(given))), "entry")


def script(make: Any) -> Make:
    """A collator of rows, made from the processor."""
    return lambda hub_id: make(processor(hub_id))


def asked(answer: str = "Bengal", sizes: Sequence[tuple[int, int]] = ((120, 96),)) -> Conversation:
    """One question, and its answer."""
    images = [Picture(collators.grey(size)) for size in sizes]
    return Conversation((Turn("user", (*images, "Which breed?")), Turn("assistant", (answer,))), answer.strip())


ONE = (asked(),)
ROWS = (asked(), asked("It is a Bengal that sleeps", ((96, 120),)))
TWICE = (Conversation((
    Turn("user", (Picture(collators.grey((120, 96))), "Breed?")), Turn("assistant", ("Bengal",)),
    Turn("user", ("Sure?",)), Turn("assistant", ("Yes.",)),
), "two answers"),)  # fmt: skip


def _key(name: str, change: Any) -> Any:
    return lambda made: made | {name: change(made[name])} if name in made else made


def _labels(change: Any) -> Any:
    """Labels from the batch."""
    return lambda made: made | {"labels": change(made)}


def _filled(value: Callable[[Any], Any]) -> Any:
    return _labels(lambda made: made["labels"].where(made["labels"] != IGNORE, value(made)))


def _padded(made: Any, length: int, pad: int = 0) -> Any:
    width = made["input_ids"].shape[1]
    fill = {"labels": IGNORE, "input_ids": pad}
    return {
        key: torch.nn.functional.pad(value, (0, length - width), value=fill.get(key, 0))
        if value.dim() == 2 and value.shape[1] == width and not value.is_floating_point() else value
        for key, value in made.items()
    }  # fmt: skip


def _multiple(made: Any) -> Any:
    return _padded(made, -(-made["input_ids"].shape[1] // 8) * 8)


def _left(hub_id: str) -> Any:
    return Candidate(Collator(processor(hub_id), own(hub_id).dialogue, padding_side="left"), "entry")


def _copy(hub_id: str) -> Any:
    values = lookup(hub_id).config
    return Candidate(Collator(build_fallback(family_of(values), values), own(hub_id).dialogue), "entry")


def _an_answer_each(given: list[Conversation]) -> list[Conversation]:
    return [replace(row, turns=row.turns[: turn + 1]) for row in given for turn in row.answers]


def _others_answers(given: list[Conversation]) -> list[Conversation]:
    last = [row.turns[-1] for row in given]
    return [replace(row, turns=(*row.turns[:-1], turn)) for row, turn in zip(given, last[1:] + last[:1], strict=True)]


def _longest_first(given: list[Conversation]) -> list[Conversation]:
    return sorted(given, key=lambda row: -sum(len(turn.text) for turn in row.turns))


def _without_system(given: list[Conversation]) -> list[Conversation]:
    return [replace(row, turns=row.turns[row.turns[0].role == "system" :]) for row in given]


def _others_images(given: list[Conversation]) -> list[Conversation]:
    if len({len(row.pictures) for row in given}) > 1:
        return given
    every = [list(row.pictures) for row in given]
    return [with_images(lambda images, other=other: other)([row])[0]
            for row, other in zip(given, every[1:] + every[:1], strict=True)]  # fmt: skip


def _first_images(given: list[Conversation]) -> list[Conversation]:
    first = next((row.pictures[0] for row in given if row.pictures), None)
    return with_images(lambda images: [first] * len(images))(given)


def _last_only(made: Any) -> Any:
    labels = made["labels"].clone()
    for label in labels:
        held = (label != IGNORE).nonzero().flatten().tolist()
        starts = [at for at in held if at - 1 not in held]
        if starts:
            label[: starts[-1]] = IGNORE
    return made | {"labels": labels}


def _row_zero(made: Any) -> Any:
    first = int((made["labels"][0] != IGNORE).nonzero()[0])
    labels = made["input_ids"].masked_fill(made["attention_mask"] == 0, IGNORE)
    labels[:, :first] = IGNORE
    return made | {"labels": labels}


def _rounded(made: Any) -> Any:
    ids = made["input_ids"].to(torch.bfloat16).long()
    return made | {"input_ids": ids, "labels": made["labels"].where(made["labels"] == IGNORE, ids)}


def _other_end(hub_id: str) -> Any:
    """Ends every answer with another token of the tokenizer's."""
    end = processor(hub_id).tokenizer.convert_tokens_to_ids(own(hub_id).dialogue.end)

    def change(made: Any) -> Any:
        last = made["labels"] == end
        return made | {key: made[key].masked_fill(last, end - 1) for key in ("input_ids", "labels")}

    return batch(change)(hub_id)


def _blank(made: Any) -> Any:
    return made | {key: torch.zeros_like(value) for key, value in made.items() if value.is_floating_point()}


def _scaled(by: float) -> Any:
    """Scales with another factor: its own image processor has other settings."""

    def make(hub_id: str) -> Any:
        mine = build_fallback(family_of(lookup(hub_id).config), lookup(hub_id).config)
        mine.image_processor.rescale_factor = by
        return Candidate(Collator(mine, own(hub_id).dialogue), "entry")

    return make


def _unnormalised(hub_id: str) -> Any:
    mine = build_fallback(family_of(lookup(hub_id).config), lookup(hub_id).config)
    mine.image_processor.do_normalize = False
    return Candidate(Collator(mine, own(hub_id).dialogue), "entry")


def _jpeg(image: Any) -> Any:
    held = io.BytesIO()
    image.convert("RGB").save(held, "JPEG", quality=80)
    return Image.open(held).convert("RGB")


def _flipped(image: Any) -> Any:
    return ImageOps.mirror(image) if random.random() < 0.5 else image


def _bright(image: Any) -> Any:
    return ImageEnhance.Brightness(image).enhance(random.uniform(0.8, 1.2))


def _half(image: Any) -> Any:
    return image.resize((max(32, image.width // 2), max(32, image.height // 2)))


def _generation_prompt(made: Any, header: Sequence[int], *, trained: bool) -> Any:
    """A generation prompt behind the last answer of a batch of one row."""
    if len(made["input_ids"]) > 1:
        return made
    behind = torch.tensor([list(header)])
    fill = {"input_ids": behind, "labels": behind if trained else torch.full_like(behind, IGNORE),
            "attention_mask": torch.ones_like(behind)}  # fmt: skip
    width = made["input_ids"].shape[1]
    return {
        key: torch.cat([value, fill.get(key, torch.zeros_like(behind)).to(value.dtype)], 1)
        if value.dim() == 2 and value.shape[1] == width and not value.is_floating_point() else value
        for key, value in made.items()
    }  # fmt: skip


def _trailing(*, trained: bool) -> Make:
    def make(hub_id: str) -> Any:
        header = public._response_header(processor(hub_id))
        return batch(lambda made: _generation_prompt(made, header, trained=trained))(hub_id)

    return make


def _positions(hub_id: str) -> Any:
    """QwenLM's, with the positions of a tiny model."""
    model = build_batch_model(lookup(hub_id).config, family_of(lookup(hub_id).config), processor(hub_id))
    return public.qwen_positions(processor(hub_id), model)


def _without_first(count: int) -> Any:
    """The first ids of every row of the batch are lost, padding or not."""

    def change(made: Any) -> Any:
        width = made["input_ids"].shape[1]
        return {
            key: value[:, count:]
            if value.dim() == 2 and value.shape[1] == width and not value.is_floating_point() else value
            for key, value in made.items()
        }  # fmt: skip

    return change


def _sound(name: str, make: Make, families: tuple[str, ...] = EVERY, given: tuple[Conversation, ...] = ()) -> Entry:
    return Entry(name, make, families, frozenset(), rows=given)


def _wrong(name: str, roots: str, make: Make, families: tuple[str, ...] = EVERY, *, model: bool = False,
           given: tuple[Conversation, ...] = ()) -> Entry:  # fmt: skip
    return Entry(name, make, families, frozenset(roots.split()), model, given)


SOUND = (
    _sound("vlcheck's own", rows(list)),
    _sound("padded on the left", _left),
    _sound("a second instance of the processor", _copy),
    _sound("padded to a multiple of eight", batch(_multiple)),
    _sound(
        "padded to 2,048 tokens", batch(lambda made: _padded(made, 2048) if made["input_ids"].shape[1] < 2048 else made)
    ),
    _sound("a boolean attention mask", batch(_key("attention_mask", lambda value: value.bool()))),
    _sound("an int32 attention mask", batch(_key("attention_mask", lambda value: value.int()))),
    _sound("a BatchEncoding", batch(BatchEncoding)),
    _sound("a UserDict", batch(UserDict)),
    _sound("bfloat16 pixels", batch(_key("pixel_values", lambda value: value.bfloat16())), CHAT),
    _sound("row names beside the tensors", batch(lambda made: made | {"names": ["row"] * len(made["labels"])})),
    _sound("images at half their size", rows(redrawn(_half)), GRIDS),
    _sound("images stored as JPEG on the way", rows(redrawn(_jpeg))),
    _sound("mirrored at random", rows(redrawn(_flipped))),
    _sound("brighter or darker at random", rows(redrawn(_bright))),
    _sound("mirrored always", rows(redrawn(ImageOps.mirror))),
    _sound("white space behind the answers", rows(with_answers("{} ".format))),
    _sound("white space before the answers", rows(with_answers(" {}".format))),
    _sound("a row an answer", rows(_an_answer_each), CHAT),
    _sound("a row an answer, data with two", rows(_an_answer_each), CHAT, TWICE),
    _sound("a generation prompt behind the answer, untrained", _trailing(trained=False), (QWEN, QWEN25)),
    _sound("a generation prompt behind the answer, trained", _trailing(trained=True), (QWEN, QWEN25)),
    _sound("Unsloth's responses only", script(public.responses_only), GRIDS, ONE),
    _sound("Unsloth's, images shrunk to 64 pixels first", script(public.resizing_first(64)), GRIDS, ONE),
    _sound("LLaMA-Factory's turn by turn", script(public.turn_by_turn), GRIDS),
    _sound("LLaMA-Factory's, images shrunk to 100 pixels first", script(public.resizing_first(100)), GRIDS, ONE),
    _sound("ms-swift's turn by turn, data with two answers", script(public.turn_by_turn), GRIDS, TWICE),
    _sound("Axolotl's role boundaries", script(public.axolotl), GRIDS),
    _sound("QwenLM's header search, newline trained", script(public.qwen_official), GRIDS),
    _sound("QwenLM's with positions of its own and no image types", _positions, (QWEN,)),
    _sound("TRL's completion only, one answer a row", script(public.completion_only), GRIDS, ONE),
    _sound("PaliGemma's notebooks, question and suffix", script(public.paligemma_official), (PALI,), ONE),
    _sound("rows sorted by length", rows(_longest_first), (QWEN, GEMMA3, LLAVA, QWEN25, INTERN), ROWS),
    _sound("header trained", batch(collators.header_supervised), (QWEN, GEMMA3, GEMMA4, INTERN)),
)

WRONG = (
    _wrong("TRL's default", "VLC207", script(collators.trl_default), (QWEN, QWEN25, GEMMA4)),
    _wrong("everything trained", "VLC207", script(collators.everything), CHAT),
    _wrong("everything but padding trained", "VLC207", batch(collators.unmasked)),
    _wrong("mask as long as the text prompt", "VLC201", script(collators.prefix_without_image), CHAT),
    _wrong("first place where the answer stands", "VLC213", script(collators.first_search), CHAT),
    _wrong("nothing trained", "VLC211", batch(collators.nothing)),
    _wrong("labels one id early", "VLC212", batch(collators.moved(-1))),
    _wrong("labels one id late", "VLC212", batch(collators.moved(1))),
    _wrong("labels two ids early", "VLC212", batch(collators.moved(-2))),
    _wrong("labels shifted twice", "VLC212", batch(collators.shifted_twice)),
    _wrong("end token left out", "VLC208", batch(collators.endless)),
    _wrong("first id left out", "VLC206", batch(collators.first_id_masked)),
    _wrong("padding trained", "VLC205", batch(collators.padding_supervised)),
    _wrong("first three ids trained", "VLC202", batch(collators.first_ids_supervised)),
    _wrong("last answer alone trained", "VLC206", batch(_last_only), CHAT),
    _wrong("last answer alone trained, data with two", "VLC206", batch(_last_only), CHAT, given=TWICE),
    _wrong("TRL's completion only on two answers", "VLC206", script(public.completion_only), GRIDS, given=TWICE),
    _wrong("every row masked as the first", "VLC202 VLC205 VLC211", batch(_row_zero)),
    _wrong("0 for -100", "VLC234", batch(_filled(lambda made: 0)), (QWEN, LLAVA, QWEN25, INTERN)),
    _wrong("-200 for -100", "VLC234", batch(_filled(lambda made: -200))),
    _wrong("-1 for -100", "VLC234", batch(_filled(lambda made: -1))),
    _wrong("the padding's id for -100", "VLC234", lambda hub_id: batch(
        _filled(lambda made: processor(hub_id).tokenizer.pad_token_id))(hub_id), CHAT),
    _wrong("labels of int32", "VLC229", batch(collators.int32_labels), model=True),
    _wrong("labels of float32", "VLC229", batch(_key("labels", lambda value: value.float())), model=True),
    _wrong("labels of float16", "VLC229 VLC212", batch(_key("labels", lambda value: value.half())), (LLAVA,),
           model=True),
    _wrong("ids beyond the embedding", "VLC229 VLC232", batch(_key("input_ids", lambda ids: ids + 10**7)), model=True),
    _wrong("ids below zero", "VLC229 VLC232", batch(_key("input_ids", lambda ids: ids - 10**7)), model=True),
    _wrong("ids rounded by bfloat16", "VLC232", batch(_rounded), (QWEN, QWEN25, GEMMA4)),
    _wrong("answers in small letters", "VLC232", rows(with_answers(str.lower))),
    _wrong("answers in capitals", "VLC232", rows(with_answers(str.upper))),
    _wrong("answers of the next row", "VLC232", rows(_others_answers)),
    _wrong("a full stop behind the answers", "VLC232", rows(with_answers("{}.".format))),
    _wrong("first letter lost", "VLC232", rows(with_answers(lambda text: text[1:]))),
    _wrong("another end token", "VLC232", _other_end, (QWEN, QWEN25)),
    _wrong("fifty words before the answers", "VLC233", rows(with_answers(
        ("A dog runs on the beach. " * 10 + "{}").format)), CHAT),
    _wrong("three words before the answers", "VLC233", rows(with_answers("It is a {}".format)), CHAT),
    _wrong("cut at 90 ids", "VLC203", batch(collators.cut(90)), (LLAVA, GEMMA3)),
    _wrong("cut at 30 ids", "VLC203", batch(collators.cut(30)), (QWEN, QWEN25)),
    _wrong("cut on the left", "VLC203", batch(_without_first(6)), (QWEN, LLAVA, QWEN25, INTERN, SMOL)),
    _wrong("last row dropped", "VLC230", rows(collators.dropping_rows)),
    _wrong("all rows packed into one", "VLC223", batch(collators.packing), (GEMMA4, QWEN), model=True),
    _wrong("images of a row in reverse", "VLC235", rows(with_images(lambda images: images[::-1]))),
    _wrong("a row's first image for all", "VLC235", rows(with_images(lambda images: images[:1] * len(images)))),
    _wrong("images of the next row", "VLC235", rows(_others_images)),
    _wrong("one image for the whole batch", "VLC235", rows(_first_images)),
    _wrong("blue for red", "VLC236", rows(redrawn(channels_swapped))),
    _wrong("pixels scaled twice", "VLC236", _scaled(1 / 65025)),
    _wrong("pixels not scaled", "VLC236", _scaled(1.0)),
    _wrong("pixels not normalised", "VLC236", _unnormalised, (QWEN, GEMMA3, LLAVA, QWEN25, INTERN, SMOL)),
    _wrong("grid of width and height", "VLC237", batch(collators.grid_swapped("image_grid_thw")), GRIDS),
    _wrong("grid of height and time", "VLC237", batch(_key("image_grid_thw", lambda grid: grid[:, [1, 0, 2]])), GRIDS),
    _wrong("pixels all zero", "VLC216", batch(_blank), (QWEN, LLAVA, GEMMA3, QWEN25), model=True),
    _wrong("pixels left out", "VLC204", batch(collators.dropping("pixel_values")), CHAT, model=True),
    _wrong("image types left out", "VLC204", batch(collators.dropping("mm_token_type_ids")), (GEMMA4, QWEN),
           model=True),
    _wrong("token types left out", "VLC204", batch(collators.dropping("token_type_ids")), (GEMMA3, PALI), model=True),
    _wrong("attention mask left out", "VLC204", batch(collators.dropping("attention_mask")), (QWEN, LLAVA, GEMMA3),
           model=True),
    _wrong("attention mask of ones", "VLC204", batch(collators.mask_of_ones), (QWEN, LLAVA, GEMMA3), model=True),
    _wrong("image types padded on the other side", "VLC214", batch(
        collators.types_on_the_other_side("mm_token_type_ids")), (GEMMA4,)),
    _wrong("pixels of the first row alone", "VLC215", batch(_key("pixel_values", lambda value: value[:1])), (LLAVA,),
           model=True),
    _wrong("a soft token lost", "VLC215", lambda hub_id: batch(collators.soft_token_lost(
        processor(hub_id).tokenizer.convert_tokens_to_ids(own(hub_id).dialogue.image_tokens[0]),
        "mm_token_type_ids"))(hub_id), (GEMMA4,), model=True),
    _wrong("two begin-of-text tokens", "VLC220", lambda hub_id: batch(collators.started_twice(
        processor(hub_id).tokenizer.bos_token_id))(hub_id), (GEMMA3, GEMMA4)),
    _wrong("no begin-of-text token", "VLC220", batch(_without_first(1)), (GEMMA3, GEMMA4)),
    _wrong("another word in the prompt", "VLC218", batch(collators.other_prompt), (QWEN, GEMMA3, GEMMA4, INTERN)),
    _wrong("system turn left out", "VLC218", rows(_without_system), CHAT),
    _wrong("answer marked as prompt", "VLC219", batch(collators.answer_marked_as_prefix), (PALI,), model=True),
    _wrong("raises an error", "VLC225", script(collators.raising)),
    _wrong("returns no labels", "VLC225", batch(collators.dropping("labels"))),
    _wrong("returns a tuple", "VLC225", batch(lambda made: tuple(made.values()))),
    _wrong("labels as lists", "VLC225", batch(_key("labels", lambda value: value.tolist()))),
    _wrong("labels of another length", "VLC225", batch(_key("labels", lambda value: value[:, 1:]))),
)  # fmt: skip

TABLE = (*SOUND, *WRONG)
