"""What the image processors of transformers do with odd sizes: the limits of VLC507, VLC508 and VLC509."""

from __future__ import annotations

import numpy as np
import pytest
import transformers
from PIL import Image

from vlcheck.model.families import FAMILIES, qwen2_5_vl
from vlcheck.rules.sizes import SMALLEST, WIDEST

CHECKPOINT_PIXELS = 12_845_056
"""`max_pixels` in the preprocessor_config.json of the Qwen2.5-VL checkpoints; the class's own default is lower."""


def processed(name: str, size: tuple[int, int], **settings):
    image = Image.new("RGB", size, "grey")
    return getattr(transformers, f"{name}ImageProcessorPil")(**settings)(image)


def numbers_made(name: str, size: tuple[int, int], **settings) -> int:
    return np.asarray(processed(name, size, **settings)["pixel_values"][0]).size


def qwen_tokens(size: tuple[int, int]) -> int:
    grid = processed("Qwen2VL", size, min_pixels=3136, max_pixels=CHECKPOINT_PIXELS)["image_grid_thw"]
    return int(np.prod(np.asarray(grid))) // 4


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("Gemma3", {}), ("Gemma4", {}), ("CLIP", {}), ("Siglip", {}), ("LlavaNext", {}), ("SmolVLM", {}),
        ("Idefics3", {}), ("GotOcr2", {"crop_to_patches": True}), ("Mllama", {}), ("Pixtral", {}),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("size", "larger"),
    [((2000, 1500), (3000, 2250)), pytest.param((4000, 3000), (6000, 4500), marks=pytest.mark.slow)],
)
def test_bounded_families(name, settings, size, larger):
    """From 3 megapixels to 7 they make nothing more of an image; with `-m slow` from 12 to 27 too."""
    assert numbers_made(name, size, **settings) == numbers_made(name, larger, **settings)


def test_growing_families():
    """Native resolution and many tiles: a phone photo costs what ten small ones do."""
    assert qwen_tokens((500, 375)) == 234
    assert qwen_tokens((4000, 3000)) == 15_301
    assert numbers_made("LlavaOnevision", (500, 375)) == 3 * 3 * 384**2
    assert numbers_made("LlavaOnevision", (4000, 3000)) == 31 * 3 * 384**2


@pytest.mark.parametrize("size", [(500, 375), (1200, 900), (3000, 2000)])
def test_tokens_are_counted_from_pixels(size):
    """The rule's estimate is within 3 % of what the processor makes."""
    estimate = size[0] * size[1] // qwen2_5_vl.FAMILY.soft_token_side**2
    assert abs(estimate - qwen_tokens(size)) <= 0.03 * qwen_tokens(size)


def test_families_whose_images_grow_say_so():
    """Every other record says that an image of any size takes a bounded number of soft tokens."""
    growing = {kind: f.soft_token_side for f in FAMILIES for kind in f.model_types if f.soft_token_side is not None}
    assert growing == {
        "qwen2_5_vl": 28, "qwen2_vl": 28, "qwen3_vl": 32, "qwen3_vl_moe": 32, "llava_onevision": 14, "glm4v": 28,
        "glm4v_moe": 28,
    }  # fmt: skip


def test_extreme_aspect_ratio():
    """Qwen's processor raises at 200:1; the limit leaves room."""
    assert WIDEST < 200
    assert qwen_tokens((28 * 199, 28)) > 0
    with pytest.raises(ValueError, match="absolute aspect ratio must be smaller than 200"):
        qwen_tokens((28 * 201, 28))


def test_tiny_images_cost_as_much_as_large_ones():
    """SmolVLM blows 10 x 10 pixels up to 17 tiles."""
    assert np.asarray(processed("SmolVLM", (10, 10))["pixel_values"][0]).shape[0] == 17
    assert min(f.soft_token_side for f in FAMILIES if f.name.startswith("Qwen")) >= SMALLEST


def test_height_of_three_is_taken_for_channels():
    """A strip of three lines looks like a channel axis."""
    from transformers.image_utils import ChannelDimension, infer_channel_dimension_format

    strip, normal = (np.asarray(Image.new("RGB", (40, height))) for height in (3, 30))
    assert infer_channel_dimension_format(strip) is ChannelDimension.FIRST
    assert infer_channel_dimension_format(normal) is ChannelDimension.LAST
