"""For each label rule a broken run that it catches and a sound one on which it is silent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests import data_samples, tiny
from tests.broken import collators
from vlcheck.data.conversation import Conversation, Picture, Turn
from vlcheck.model.families import family_of
from vlcheck.processing.collator import Collator
from vlcheck.processing.fallback import build_fallback
from vlcheck.spec import Data, Training

ANSWER = "american_bulldog with a white chest"


def unclipped() -> dict[str, Any]:
    """The tiny model of a checkpoint that does not clip: its generation prompt opens an empty thought."""
    return tiny.gemma4(clip=False)


def paligemma() -> dict[str, Any]:
    """A tiny model whose processor takes question and answer apart."""
    return tiny.shrunken("google/paligemma2-3b-pt-224")


def smolvlm() -> dict[str, Any]:
    """A tiny model whose answers begin with a space."""
    return tiny.shrunken("HuggingFaceTB/SmolVLM2-256M-Video-Instruct")


def own(values: dict[str, Any]) -> Collator:
    """Our collator over the stand-in."""
    family = family_of(values)
    return Collator(build_fallback(family, values), family.dialogue)


def rows() -> tuple[Conversation, ...]:
    """One row, whose answer is longer than an empty thought."""
    question = Turn("user", (Picture(collators.grey((64, 48))), "Which breed is it?"))
    return (Conversation((question, Turn("assistant", (ANSWER,))), "row 0"),)


def mutant(change: Any, **more: Any) -> dict[str, Any]:
    """A run whose collator is ours, its batch changed in one respect."""

    def given(values):
        collator = own(values)
        return {"processor": collator.processor, "candidate": collators.changed(collator, change, "mutant")}

    return {"given": given, **more}


def other_rows(change: Any, **more: Any) -> dict[str, Any]:
    """A run whose collator is ours, given other conversations than those that it should."""

    def given(values):
        collator = own(values)
        return {"processor": collator.processor, "candidate": collators.changed_rows(collator, change, "mutant")}

    return {"given": given, **more}


def foreign(make: Callable[[Any], Any], **more: Any) -> dict[str, Any]:
    """A run with somebody else's collator."""

    def given(values):
        processor = build_fallback(family_of(values), values)
        return {"processor": processor, "collator": make(processor), "conversations": rows()}

    return {"given": given, **more}


def qwen() -> dict[str, Any]:
    """A tiny model whose batches say how the patches of an image lie."""
    return tiny.shrunken("Qwen/Qwen3-VL-2B-Instruct")


def smaller(image: Any) -> Any:
    """An image at half its size."""
    return image.resize((image.width // 2, image.height // 2))


SOUND = other_rows(list)
"""A run with a collator that is not known to be ours: every probe is made."""

QWEN = other_rows(list, model=qwen, bounds=None)


def padded_with_end(values: dict[str, Any]) -> dict[str, Any]:
    """A processor that pads with the end token."""
    processor = build_fallback(family_of(values), values)
    processor.tokenizer.pad_token = "<turn|>"
    return {"processor": processor}


def by_path(name: str, **training: Any) -> dict[str, Any]:
    """A run whose config names its collator."""
    return {
        "data": Data(collator=f"tests.broken.collators:{name}"),
        "training": Training(gradient_checkpointing=True, **{"remove_unused_columns": False, **training}),
    }


def handed_in(values: dict[str, Any]) -> dict[str, Any]:
    """A processor that is not known to be a stand-in."""
    return {"processor": build_fallback(family_of(values), values)}


GEMMA = {"bos": 2, "soft": 258880, "types": "mm_token_type_ids"}

BROKEN: dict[str, dict[str, Any]] = {
    "VLC201": foreign(collators.prefix_without_image),
    "VLC202": mutant(collators.first_ids_supervised),
    "VLC203": {"data": Data(max_length=250)},
    "VLC204": mutant(collators.dropping(GEMMA["types"])),
    "VLC205": mutant(collators.padding_supervised),
    "VLC206": mutant(collators.first_id_masked),
    "VLC207": mutant(collators.unmasked),
    "VLC208": mutant(collators.endless),
    "VLC209": foreign(collators.prefix_with_image),
    "VLC210": mutant(collators.header_supervised),
    "VLC211": mutant(collators.nothing),
    "VLC212": mutant(collators.shifted_twice),
    "VLC213": foreign(collators.first_search),
    "VLC214": mutant(collators.types_on_the_other_side(GEMMA["types"])),
    "VLC215": mutant(collators.soft_token_lost(GEMMA["soft"], GEMMA["types"])),
    "VLC216": mutant(collators.blind),
    "VLC217": {"model": unclipped},
    "VLC218": mutant(collators.other_prompt),
    "VLC219": mutant(collators.answer_marked_as_prefix, model=paligemma, bounds=None),
    "VLC220": mutant(collators.started_twice(GEMMA["bos"])),
    "VLC221": by_path("sound", remove_unused_columns=True),
    "VLC222": {"given": padded_with_end},
    "VLC223": mutant(collators.packing),
    "VLC224": by_path("sound", gradient_accumulation_steps=4),
    "VLC225": by_path("raising"),
    "VLC226": {"data": Data(max_length=250, overflow="drop")},
    "VLC227": foreign(collators.prefix_with_image, model=unclipped),
    "VLC228": other_rows(collators.text_only_refused),
    "VLC229": mutant(collators.int32_labels),
    "VLC230": other_rows(collators.dropping_rows),
    "VLC231": mutant(collators.packing_many),
    "VLC232": other_rows(collators.with_answers(str.lower)),
    "VLC233": other_rows(collators.with_answers("It is a picture of one. ".__add__)),
    "VLC234": mutant(collators.zeros_for_ignore),
    "VLC235": other_rows(collators.with_images(lambda images: images[::-1])),
    "VLC236": other_rows(collators.redrawn(collators.channels_swapped)),
    "VLC237": mutant(collators.grid_swapped("image_grid_thw"), model=qwen, bounds=None),
    "VLC238": other_rows(collators.redrawn(smaller), model=qwen, bounds=None),
}
BROKEN["VLC512"] = {"model": smolvlm, "bounds": None, "given": handed_in, **data_samples.SOUND}

CONSEQUENCES: dict[str, set[str]] = {
    "VLC201": {"VLC202", "VLC205", "VLC209", "VLC210"},
    "VLC207": {"VLC202", "VLC205", "VLC209", "VLC210"},
    "VLC211": {"VLC206", "VLC208"},
    "VLC212": {"VLC208", "VLC210"},
    "VLC213": {"VLC202", "VLC206", "VLC208"},
    "VLC214": {"VLC223"},
    "VLC215": {"VLC218"},
    "VLC220": {"VLC218"},
    "VLC223": {"VLC231"},
    "VLC227": {"VLC206", "VLC208", "VLC211"},
    "VLC233": {"VLC218"},
}

BESIDE: dict[str, set[str]] = {
    "VLC106": {"VLC217"},
    "VLC217": {"VLC106"},
    "VLC209": {"VLC228"},
    "VLC213": {"VLC228"},
    "VLC227": {"VLC106", "VLC209", "VLC217", "VLC218"},
}

ALIKE: dict[str, dict[str, Any]] = {
    **{code: {} for code in BROKEN},
    **{f"VLC{number}": SOUND for number in (*range(228, 234), 235, 236)},
    "VLC237": QWEN,
    "VLC238": QWEN,
    "VLC203": {"data": Data(max_length=1000)},
    "VLC219": {"model": paligemma, "bounds": None},
    "VLC221": by_path("sound"),
    "VLC224": {**by_path("sound", gradient_accumulation_steps=4), "model": smolvlm, "bounds": None},
    "VLC225": by_path("sound"),
    "VLC226": {"data": Data(max_length=1000, overflow="drop")},
    "VLC227": {"model": unclipped},
    "VLC512": {"given": handed_in, **data_samples.SOUND},
}

EXAMINED: dict[str, tuple[tuple[int, str], ...]] = {
    "VLC201": ((14, "rows"), (8, "numbers of soft tokens")),
    "VLC202": ((12, "rows"),),
    "VLC203": ((12, "rows"), (349, "tokens in the longest, of 1000 allowed")),
    "VLC204": ((3, "keys"),),
    "VLC205": ((12, "rows"), (2775, "image ids"), (133, "padding ids")),
    "VLC206": ((12, "answers"),),
    "VLC207": ((12, "rows"),),
    "VLC208": ((12, "answers"),),
    "VLC209": ((12, "rows"),),
    "VLC210": ((12, "rows"),),
    "VLC211": ((12, "rows"),),
    "VLC212": ((48, "labels"),),
    "VLC213": ((2, "rows, with and without the answer in the question"),),
    "VLC214": ((14, "rows"),),
    "VLC215": ((12, "rows"), (2751, "soft tokens")),
    "VLC216": ((339719, "logits compared with another picture in the row"),),
    "VLC217": ((1, "generation prompt held against a rendered turn"),),
    "VLC218": ((4, "rows whose prompt was compared with the evaluation prompt"),),
    "VLC219": ((110511, "logits before a changed answer id"),),
    "VLC220": ((12, "rows"),),
    "VLC221": ((4, "columns"),),
    "VLC222": ((1, "pad token"),),
    "VLC223": ((23, "labels whose logits were compared in one batch and apart"),),
    "VLC224": ((2, "rows, in one batch and one by one"),),
    "VLC225": ((26, "batches and rows"),),
    "VLC226": ((12, "rows"),),
    "VLC227": ((12, "rows"), (6, "ids that the generation prompt opens")),
    "VLC228": ((11, "shapes of conversation"),),
    "VLC229": ((2, "batches, of one row and of two"),),
    "VLC230": ((21, "conversations"),),
    "VLC231": ((21, "conversations"),),
    "VLC232": ((25, "answers"),),
    "VLC233": ((25, "answers"),),
    "VLC234": ((12, "rows"),),
    "VLC235": ((4, "images held against the processor's own"),),
    "VLC236": ((4, "images held against the processor's own"),),
    "VLC237": ((4, "images held against the processor's own"),),
    "VLC238": ((4, "images held against the processor's own"),),
    "VLC512": ((4, "labels, alone and behind the turn's header"),),
}
