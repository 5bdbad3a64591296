"""A picture that was seen before is the picture that is made anew, and nothing else is taken for it."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from transformers.image_processing_utils import BaseImageProcessor

from tests.model.families.models import entry
from vlcheck.collators.remembered import remembered, remembering
from vlcheck.model.families import family_of
from vlcheck.processing.fallback import build_fallback

ORIGINAL = BaseImageProcessor.__call__


@pytest.fixture
def processor():
    """Gemma 4's, which has a setting of its own for the number of soft tokens."""
    values = entry("google/gemma-4-E4B-it").config
    return build_fallback(family_of(values), values).image_processor


def picture(colour: str = "red", size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.new("RGB", size, colour)


def test_from_memory_as_made_anew(processor):
    """Every key of the batch, and again after a caller has changed what it got."""
    call = remembering(getattr(ORIGINAL, "__wrapped__", ORIGINAL))
    anew = getattr(ORIGINAL, "__wrapped__", ORIGINAL)(processor, [picture()], return_tensors="pt")
    for _ in range(3):
        made = call(processor, [picture()], return_tensors="pt")
        assert made.keys() == anew.keys()
        assert all(torch.equal(made[key], anew[key]) for key in anew)
        made["pixel_values"].zero_()


@pytest.mark.parametrize("change", ["colour", "size", "setting", "option"])
def test_nothing_else_is_taken_for_it(processor, change):
    """Another pixel, shape, attribute or option is looked at anew."""
    calls = []

    def process(self, images, **options):
        calls.append(images)
        return ORIGINAL(self, images, **options)

    call = remembering(process)
    call(processor, [picture()])
    call(processor, [picture()])
    assert len(calls) == 1
    if change == "setting":
        processor.max_soft_tokens = 70
    other = {"colour": picture("blue"), "size": picture(size=(48, 64))}.get(change, picture())
    call(processor, [other], **({"do_normalize": True} if change == "option" else {}))
    assert len(calls) == 2


def test_a_processor_remembers_for_a_while(processor):
    """Its class is its own again behind the block, and inside it is one by name and kind; nested, nothing changes."""
    kind = type(processor)
    with remembered(processor):
        inside = type(processor)
        assert issubclass(inside, kind)
        assert inside.__name__ == kind.__name__
        with remembered(processor):
            assert type(processor) is inside
        assert type(processor) is inside
    assert type(processor) is kind


def test_what_cannot_be_told_by_its_print_is_not_remembered():
    """An option that holds an array, or a picture that is one."""
    calls = []

    def process(self, images, **options):
        calls.append(images)
        return {}

    call = remembering(process)
    for images, options in (([picture()], {"mean": torch.ones(3)}), ([torch.ones(3, 4, 4)], {})):
        call(object.__new__(Bare), images, **options)
        call(object.__new__(Bare), images, **options)
    assert len(calls) == 4


class Bare:
    """An image processor without settings."""
