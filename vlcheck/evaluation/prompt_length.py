"""Labels as the article's first code cuts them: behind as many ids as the prompt has, wherever the answer stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from vlcheck.data.conversation import Conversation
from vlcheck.processing.chat_template import RowText
from vlcheck.processing.collator import Collator
from vlcheck.processing.labels import IGNORE_INDEX


@dataclass(frozen=True)
class PromptLength(Collator):
    """A collator of one-answer rows that renders whole turns and masks the length of the prompt with its image.

    Where a generation prompt opens more than a rendered turn does, as the empty thought of the large Gemma 4 models,
    that is more than stands before the answer, and the answer's first ids are not trained.
    """

    def rows(self, conversation: Conversation) -> tuple[RowText, ...]:
        """As the collator's, rendered whole by the template."""
        whole = self.template.render(conversation.turns, prompt=False)
        return tuple(replace(row, text=whole) for row in super().rows(conversation))

    def _labels(self, rows: Sequence[RowText], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        asked = [replace(row, text=row.text[: row.places[0].at] + row.places[0].header) for row in rows]
        length_B = self.tensors(asked)["attention_mask"].sum(1)
        own_BT = batch["attention_mask"] > 0
        behind_BT = own_BT.cumsum(1) > length_B[:, None]
        return batch["input_ids"].where(own_BT & behind_BT, IGNORE_INDEX)


def by_length(collator: Collator) -> PromptLength:
    """The same collator with such labels."""
    kept = {name: getattr(collator, name) for name in collator.__dataclass_fields__ if name != "template"}
    return PromptLength(**kept)
