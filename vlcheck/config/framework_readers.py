"""How frameworks read a row with images, each fact with its place; only those whose reader was read stand here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vlcheck.config.frameworks import AXOLOTL, LLAMA_FACTORY, MS_SWIFT, TRL, Fact
from vlcheck.spec import Framework as Name


@dataclass(frozen=True, kw_only=True)
class Reader:
    """What a framework's own reader makes of rows that can be written in several ways."""

    title: str
    bare_image: Fact[str]
    """What becomes of one path in `images` where a list is meant; empty where it is taken as that list."""
    null_image: Fact[str]
    """What becomes of an `image` that is null, beside rows that hold one; empty where the row is taken for text."""
    conversations: Fact[str]
    """What becomes of LLaVA's `conversations` of from and value; empty where they are read."""
    unplaced_text: Fact[str]
    """What becomes of images that no placeholder of a text asks for; empty where they are put before it."""
    unplaced_parts: Fact[str]
    """The same where the user's turn is a list of parts."""


_COUNTED = Fact("stops: it wants as many <image> in the text as there are images", "llamafactory/data/mm_plugin.py")

READERS: Mapping[Name, Reader] = {
    "trl": Reader(
        title=TRL.title,
        bare_image=Fact("takes each character of the path for an image", "trl/data_utils.py:74-84"),
        null_image=Fact(
            "takes null for an image and stops", "trl/trainer/sft_trainer.py:369-371,425-427, the vision collator"
        ),
        conversations=Fact(
            "looks for `messages`, or prompt and completion", "trl/trainer/sft_trainer.py:387,434, the vision collator"
        ),
        unplaced_text=Fact("", "trl/data_utils.py:82-85, before the first user message"),
        unplaced_parts=Fact("stops: it wants as many image parts as there are images", "trl/data_utils.py:97-106"),
    ),
    "llamafactory": Reader(
        title=LLAMA_FACTORY.title,
        bare_image=Fact("", "llamafactory/data/converter.py:46, _find_medias"),
        null_image=Fact("", "llamafactory/data/converter.py:45, _find_medias"),
        conversations=Fact("", "llamafactory/data/parser.py:43-56, converter.py: SharegptDatasetConverter"),
        unplaced_text=_COUNTED,
        unplaced_parts=_COUNTED,
    ),
    "axolotl": Reader(
        title=AXOLOTL.title,
        bare_image=Fact("opens the first character of the path as the image", "axolotl/processing_strategies.py:279"),
        null_image=Fact("", "axolotl/processing_strategies.py:270"),
        conversations=Fact("", "axolotl/processing_strategies.py:169-178, convert_legacy_format"),
        unplaced_text=Fact("", "axolotl/processing_strategies.py:327, behind the first user's text"),
        unplaced_parts=Fact("", "axolotl/processing_strategies.py:327, behind the first user's parts"),
    ),
    "ms-swift": Reader(
        title=MS_SWIFT.title,
        bare_image=Fact("", "swift/dataset/preprocessor/core.py:112"),
        null_image=Fact("", "swift/dataset/preprocessor/core.py:108"),
        conversations=Fact("", "swift/dataset/preprocessor/core.py:507"),
        unplaced_text=Fact("", "swift/template/base.py:1207, before the first message"),
        unplaced_parts=Fact(
            "puts no placeholder into a turn of parts, so the image reaches no token",
            "swift/template/base.py:1189-1191",
        ),
    ),
}
"""By the name in `training.framework`."""
