"""Gemma 4 with its real tokenizer and both official templates; skipped where the shared data is not at hand.

The small template waits for `-m slow`: the laws of `test_laws.py` hold it to its real tokenizer by default. So does the
processor that an audit finds in a folder: the tokenizer is loaded once more for it, and once more without torchvision.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.broken import collators
from tests.model.families.settings import SHARED, real_processor, unpack_tokenizer
from vlcheck import check_collator
from vlcheck.collators.probes import as_example, budget
from vlcheck.data.conversation import BadRow, Conversation, Picture, Turn
from vlcheck.finding import Report, Severity
from vlcheck.model import catalogue
from vlcheck.model.config import ModelConfig
from vlcheck.model.families.gemma4 import DIALOGUE, FAMILY
from vlcheck.processing.collator import Collator
from vlcheck.processing.processor import FoundProcessor, find_processor
from vlcheck.spec import Lora, ModelRef, RunSpec

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not here")
BREEDS = ("Abyssinian", "american_bulldog", "Egyptian_Mau", "english_cocker_spaniel", "shiba_inu")
SOFT = 258880
TRIED = ("VLC204", "VLC215", "VLC216", "VLC219", "VLC223", "VLC224", "VLC229")
"""Rules that run a tiny model: `test_own_collator_is_sound` does; a verdict on labels alone does not need it."""
SIZES = {"large": "google/gemma-4-31B-it", "small": "google/gemma-4-E4B-it"}


@pytest.fixture(params=["large", pytest.param("small", marks=pytest.mark.slow)])
def size(request) -> str:
    return request.param


@pytest.fixture(params=["put together", pytest.param("in a folder", marks=pytest.mark.slow)])
def processor(size, request):
    """The processor of its parts, and the one that an audit finds in a model folder as the Hub has it."""
    if request.param == "put together":
        return put_together(size)
    found = in_folder(size)
    assert not found.fallback
    return found.processor


@cache
def put_together(size: str) -> Any:
    return real_processor(f"gemma-4 {size}", catalogue.lookup(SIZES[size]).config)


@cache
def in_folder(size: str) -> FoundProcessor:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unpack_tokenizer("gemma-4", folder)
        template = (SHARED / "chat-templates" / f"gemma-4-{size}.2026-05.jinja").read_text()
        (folder / "chat_template.jinja").write_text(template)
        settings = (SHARED / "tokenizers/gemma-4/processor_config.json").read_text()
        (folder / "processor_config.json").write_text(settings)
        config = ModelConfig(catalogue.lookup(SIZES[size]).config, "test", folder)
        spec = RunSpec(model=ModelRef(id=name), lora=Lora())
        return find_processor(spec, config, FAMILY, offline=True)


def photo(answer: str = "Abyssinian", size=(500, 375)) -> Conversation:
    question = "Which breed is it? Answer with one of: " + ", ".join(BREEDS)
    return Conversation((Turn("user", (Picture(Image.new("RGB", size)), question)), Turn("assistant", (answer,))), "r")


def judged(collator: Any, row: Conversation, processor: Any, size: str) -> Report:
    """The verdict on one row, without the tiny model."""
    return check_collator(collator, processor, [row], model=SIZES[size], ignore=TRIED)


def test_span_of_a_photo_is_the_answer_and_its_end(processor, size):
    """A 500 x 375 photo takes 266 soft tokens, and the supervised span decodes to the answer and `<turn|>`."""
    batch = Collator(processor, DIALOGUE)([photo(breed) for breed in BREEDS])

    tokenizer = processor.tokenizer
    assert (batch["input_ids"] == SOFT).sum(1).tolist() == [266] * len(BREEDS)
    spans = [ids[labels != -100] for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True)]
    assert [tokenizer.decode(span) for span in spans] == [f"{breed}<turn|>" for breed in BREEDS]


def test_backward_search_at_280_soft_tokens_gets_two_notes(processor, size):
    """The published sample's search: header and newline are supervised, which are notes.

    The large template's plain rendering trains on another prompt, which is said besides.
    """
    report = judged(collators.backward_search(processor), photo(), processor, size)

    codes = {o.rule.code for o in report.found()}
    assert codes - {"VLC217", "VLC218"} == {"VLC209", "VLC210", "VLC228"}
    assert (codes & {"VLC217", "VLC218"} != set()) == (size == "large")
    assert report.found(Severity.ERROR) == ()


@pytest.mark.slow
def test_backward_search_at_1120_soft_tokens_is_an_error(processor, size):
    """With `max_length` 1024 the processor refuses rows whose image was cut; the next test cuts answers alone."""
    with budget(Collator(processor, DIALOGUE), 1120):
        report = check_collator(
            collators.backward_search(processor), processor, [photo()], model=SIZES[size], ignore=TRIED
        )

    assert "VLC225" in {o.rule.code for o in report.found(Severity.ERROR)}


@pytest.mark.slow
def test_backward_search_that_cuts_the_answer_alone_supervises_the_image(processor, size):
    """Where the image fits and the answer does not, the fallback labels from within the image's soft tokens."""
    collator = collators.backward_search(processor, max_length=1100)
    with budget(Collator(processor, DIALOGUE), 1120):
        report = judged(collator, photo(), processor, size)

    assert {"VLC203", "VLC205"} <= {o.rule.code for o in report.found(Severity.ERROR)}


def test_an_answer_that_is_cut_off_leaves_the_image_supervised(processor):
    """What the test before it judges, in one batch: no anchor is left to search for."""
    collator = collators.backward_search(processor, max_length=1100)
    with budget(Collator(processor, DIALOGUE), 1120):
        labels = collator([as_example(photo())])["labels"]

    assert (labels == SOFT).any()


def test_prefix_lengths(processor, size):
    """Without the image the mask is short by the soft tokens; with it, the large template's mask eats the answer."""
    answer = photo("an american_bulldog with a white chest")
    without = check_collator(
        collators.prefix_without_image(processor), processor, [answer], model=SIZES[size], ignore=TRIED
    )
    with_image = check_collator(
        collators.prefix_with_image(processor), processor, [answer], model=SIZES[size], ignore=TRIED
    )

    plain = {"VLC217", "VLC218"} if size == "large" else set()
    assert {o.rule.code for o in without.found()} == {"VLC201", "VLC202", "VLC205", "VLC209", "VLC210"} | plain
    swallowed = {"VLC206", "VLC208", "VLC211", "VLC227"} if size == "large" else set()
    assert {o.rule.code for o in with_image.found()} == {"VLC209"} | swallowed | plain


def test_own_collator_is_sound(processor, size):
    """No error and no warning; the large template's empty thought is noted."""
    report = check_collator(Collator(processor, DIALOGUE), processor, [photo(), photo("pug")], model=SIZES[size])

    assert {o.rule.code for o in report.found()} == ({"VLC217"} if size == "large" else set())


def test_labels_are_cut_alike_alone_and_in_the_row(processor):
    """Gemma 4's turn header ends with a newline, behind which words are cut as they are alone."""
    cut = Collator(processor, DIALOGUE).cut_labels(BREEDS)

    assert all(alone == behind for alone, behind in cut.values())


def test_a_tools_turn_that_the_template_leaves_out_is_refused(processor):
    """Both templates write a tool's words behind the call that asked for them, and nowhere else."""
    asked, answered = photo().turns
    turns = (asked, Turn("assistant", ("I shall look.",)), Turn("tool", ("Bengal: spotted coat",)), answered)

    with pytest.raises(
        BadRow, match="row, turn 2: the chat template does not write this tool's words: 'Bengal: spotted coat'"
    ):
        Collator(processor, DIALOGUE)([Conversation(turns, "row")])
