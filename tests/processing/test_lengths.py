"""Lengths from text and headers are those that the collator's batch has."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from vlcheck.collators.probes import picture
from vlcheck.data.conversation import Conversation, Picture, Turn
from vlcheck.data.images import BadPicture, open_picture, read_size
from vlcheck.finding import Unavailable
from vlcheck.model import catalogue
from vlcheck.model.families import family_of
from vlcheck.processing import lengths
from vlcheck.processing.collator import Collator
from vlcheck.processing.fallback import build_fallback
from vlcheck.processing.labels import IGNORE_INDEX
from vlcheck.processing.lengths import CHUNK, measure_rows

SAMPLES = {
    "google/gemma-4-31B-it", "google/gemma-3-4b-it", "Qwen/Qwen2.5-VL-7B-Instruct",
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct",
    "llava-hf/llava-1.5-7b-hf", "google/paligemma2-3b-pt-224", "OpenGVLab/InternVL3-8B-hf",
}  # fmt: skip
FRAMED = {"<start_of_image>"}
"""Gemma 3 puts line ends around an image, which may become one token with those of the text."""
ENTRIES = {entry.hub_id: entry.config for entry in catalogue.entries() if entry.hub_id in SAMPLES}


def collator_of(values):
    family = family_of(values)
    try:
        return Collator(build_fallback(family, values), family.dialogue)
    except Unavailable as missing:
        pytest.skip(missing.reason)


def row(*content, answer="Beagle, or so it seems."):
    return Conversation((Turn("user", content), Turn("assistant", (answer,))), "row")


def rows(several: bool):
    one, two = picture((640, 200)), picture((300, 500), 1)
    return [row(one, "Which breed is it?"), row(two, "Name it. " * 30, answer="A long tale. " * 20),
            *([row(one, "One.\n", two, "Two?")] if several else [])]  # fmt: skip


def test_all_samples_are_in_the_catalogue():
    assert set(ENTRIES) == SAMPLES


@pytest.mark.parametrize("values", ENTRIES.values(), ids=ENTRIES)
def test_lengths_are_those_of_the_collators_batch(values):
    """Tokens, images, soft tokens and supervised ids of each row, alone in a batch."""
    collator = collator_of(values)
    conversations = rows(several=not collator.dialogue.suffix)

    found = measure_rows(conversations, collator)

    soft = collator.processor.tokenizer.convert_tokens_to_ids(collator.dialogue.image_tokens[0])
    assert not found.unread
    for conversation, length in zip(conversations, found.rows, strict=True):
        batch = collator([conversation])
        joined = 2 * length.images if collator.processor.image_token in FRAMED else 0
        assert 0 <= length.tokens - batch["input_ids"].shape[1] <= joined
        assert length.images == len(conversation.pictures)
        assert length.soft_tokens == int((batch["input_ids"] == soft).sum())
        assert length.supervised == int((batch["labels"] != IGNORE_INDEX).sum())


def test_text_alone_and_several_answers():
    collator = collator_of(ENTRIES["Qwen/Qwen2.5-VL-7B-Instruct"])
    said = Conversation((Turn("user", ("Hello?",)), Turn("assistant", ("Yes.",)), Turn("user", ("So?",)),
                         Turn("assistant", ("So it is.",))))  # fmt: skip
    (length,) = measure_rows([said], collator).rows
    batch = collator([said])
    assert (length.tokens, length.images) == (batch["input_ids"].shape[1], 0)
    assert length.supervised == int((batch["labels"] != IGNORE_INDEX).sum())


def test_no_pixel_is_decoded(tmp_path):
    """A file cut off behind its header has a length all the same, and no image."""
    written = io.BytesIO()
    Image.new("RGB", (640, 200)).save(written, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(written.getvalue()[:700])
    cut = Picture(tmp_path / "cut.jpg")
    with pytest.raises(BadPicture):
        open_picture(cut)
    assert read_size(cut) == (640, 200)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_sizes_are_those_of_the_upright_image(tmp_path, form):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 32)).save(tmp_path / "image", form, exif=exif)
    turned = Picture(tmp_path / "image")
    assert read_size(turned) == open_picture(turned).size == (32, 64)


def test_unreadable_rows_are_left_out(tmp_path):
    """The rules of the data name them; the others keep their lengths."""
    collator = collator_of(ENTRIES["Qwen/Qwen2.5-VL-7B-Instruct"])
    (tmp_path / "none.jpg").write_bytes(b"no image")
    good = rows(several=False)
    found = measure_rows([good[0], row(Picture(tmp_path / "none.jpg"), "?"), good[1]], collator)
    assert found == measure_rows(good, collator)


def test_rows_that_are_longer_for_certain_are_named():
    """Where line ends around an image may join those of a text, only what is too long without them."""
    for name in ("google/gemma-3-4b-it", "Qwen/Qwen2.5-VL-7B-Instruct"):
        collator = collator_of(ENTRIES[name])
        conversations = rows(several=True)
        found = measure_rows(conversations, collator)
        tokens = [collator([one])["input_ids"].shape[1] for one in conversations]
        assert found.slack == (2 if name.startswith("google") else 0)
        assert len(found.names) == len(tokens)
        assert all(count <= max(tokens) for _, count in found.over(0))
        assert found.over(max(tokens)) == ()
        assert found.over(max(tokens) - 5)[0][1] <= max(tokens)


def test_rows_that_say_the_same_are_measured_once(monkeypatch, tmp_path):
    """The text of two answers is cut once each, and a file that many show is opened once."""
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    opened: list[Picture] = []
    monkeypatch.setattr(lengths, "read_size", lambda picture: opened.append(picture) or read_size(picture))
    collator = collator_of(ENTRIES["Qwen/Qwen2.5-VL-7B-Instruct"])
    many = [row(Picture(tmp_path / "a.png"), "Which?", answer=("red", "blue")[n % 2]) for n in range(3 * CHUNK)]
    found = measure_rows(many, collator)
    assert len(found.rows) == len(many)
    assert len(set(found.rows)) <= 2
    assert len(opened) == 1


def test_time_is_bounded_and_what_was_left_out_is_said():
    collator = collator_of(ENTRIES["Qwen/Qwen2.5-VL-7B-Instruct"])
    told: list[str] = []
    found = measure_rows((row("What?") for _ in range(10**9)), collator, seconds=0.0, progress=told.append)
    assert len(found.rows) <= CHUNK
    assert found.unread == f"only the first {len(found.rows):,} rows were measured, within 0 s"
