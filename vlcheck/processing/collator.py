"""Conversations → a batch with labels. Audit and training call this one collator.

Dimensions: B rows, T tokens of the longest row.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import torch

from vlcheck.data.conversation import BadRow, Conversation, Picture, Turn
from vlcheck.data.images import BadPicture, open_picture
from vlcheck.model.family import Dialogue
from vlcheck.processing.chat_template import RowText, Template, read_template
from vlcheck.processing.labels import IGNORE_INDEX, LabelLost, Span, label_answers, matches

Batch: TypeAlias = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Dropped:
    """A row that was left out because it is too long."""

    name: str
    tokens: int
    limit: int

    def __str__(self) -> str:
        return f"{self.name}: {self.tokens} tokens after image expansion; allowed: at most {self.limit}"


class NoRowLeft(BadRow):
    """Every row of a batch is too long; `dropped` says how long each is."""

    def __init__(self, dropped: tuple[Dropped, ...]) -> None:
        super().__init__(f"every row of this batch is too long; {dropped[0]}")
        self.dropped = dropped


@dataclass(frozen=True)
class Collated:
    """A batch, the rows it holds in order, and those that it does not."""

    batch: Batch
    rows: tuple[RowText, ...]
    dropped: tuple[Dropped, ...] = ()


@dataclass(frozen=True)
class Collator:
    """Render, let the processor expand the images, label the answers.

    A conversation gives one row, or one an answer where its template asks for that (see `Template.rows`).

    Args:
        processor: the run's; its chat template, image processor and tokenizer are used as they are.
        dialogue: how the family's turns look.
        max_length: longest row in tokens after image expansion. Nothing is ever truncated.
        overflow: what becomes of a longer row: `error` raises, `drop` leaves it out and says so.
        padding_side: of every per-token key; training pads right, generation left.
        answers: which of a conversation's answers are labelled; of `last`, a conversation gives its last row alone.
    """

    processor: Any
    dialogue: Dialogue
    max_length: int | None = None
    overflow: Literal["error", "drop"] = "error"
    padding_side: Literal["left", "right"] = "right"
    answers: Literal["all", "last"] = "all"
    template: Template = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "template", read_template(self.processor, self.dialogue))

    def __call__(self, conversations: Sequence[Conversation]) -> Batch:
        """The batch of these conversations; see `collate`."""
        return self.collate(conversations).batch

    def collate(self, conversations: Sequence[Conversation]) -> Collated:
        """A batch with labels, and what was left out of it.

        Returns:
            `input_ids`, `attention_mask`, `labels`, each (B, T), and every key that the processor made.

        Raises:
            BadRow: naming the row: unreadable image, text that no tokenizer takes, a marker of an image in
                its text, a row longer than `max_length` under `overflow="error"`, or no row left.
        """
        return self.collate_rows([row for conversation in conversations for row in self.rows(conversation)])

    def rows(self, conversation: Conversation) -> tuple[RowText, ...]:
        """The rows that train a conversation, with the answers that are labelled in each.

        Raises:
            BadRow: as `Template.rows`.
        """
        rows = self.template.rows(conversation)
        if self.answers == "all":
            return rows
        return (replace(rows[-1], places=rows[-1].places[-1:]),)

    def cut_labels(self, labels: Sequence[str]) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
        """Ids of each label alone, and behind the header of a turn."""
        tokenizer, lead = self.processor.tokenizer, self.template.opening.lead
        asked = "" if self.dialogue.suffix else self.template.render((Turn("user", ("?",)),), prompt=True) + lead
        found = {}
        for label in labels:
            alone = tuple(tokenizer(label, add_special_tokens=False)["input_ids"])
            row = tokenizer(asked + label + self.dialogue.end, add_special_tokens=False, return_offsets_mapping=True)
            cut = zip(row["input_ids"], row["offset_mapping"], strict=True)
            found[label] = alone, tuple(number for number, (_, stop) in cut if stop > len(asked))[:-1]
        return found

    def collate_rows(self, rows: Sequence[RowText]) -> Collated:
        """As `collate`, for rows that `template` has rendered."""
        batch = self.tensors(rows)
        lengths = batch["attention_mask"].sum(1).tolist()
        limit = self.max_length
        long = [Dropped(row.name, n, limit) for row, n in zip(rows, lengths, strict=True) if limit and n > limit]
        if long and self.overflow == "error":
            raise BadRow(str(long[0]) + (f" (and {len(long) - 1} more rows of this batch)" if long[1:] else ""))
        if long:
            kept = [row for row, n in zip(rows, lengths, strict=True) if n <= (limit or n)]
            if not kept:
                raise NoRowLeft(tuple(long))
            return replace(self.collate_rows(kept), dropped=tuple(long))
        return Collated({**batch, "labels": self._labels(rows, batch)}, tuple(rows))

    def prompts(self, conversations: Sequence[Conversation], turns: Sequence[int]) -> Batch:
        """What is generated from: each conversation up to the answer of a turn, padded on the left.

        Raises:
            BadRow: as `collate`.
        """
        return self.tensors(
            [self.template.prompt(c, turn) for c, turn in zip(conversations, turns, strict=True)], side="left"
        )

    def tensors(self, rows: Sequence[RowText], side: str = "") -> Batch:
        """What the processor makes of rows, without labels.

        Raises:
            BadRow: as `collate`, naming the row that fails alone; if none does, all of the batch.
        """
        pictures = [[_opened(row, picture) for picture in row.pictures] for row in rows]
        for row in rows:
            self._check_text(row)
        try:
            return self._call(rows, pictures, side)
        except Exception as error:
            for row, own in zip(rows, pictures, strict=True):
                try:
                    self._call([row], [own], side)
                except Exception as its:
                    raise BadRow(f"{row.name}: the processor refuses it: {its}") from its
            names = ", ".join(row.name for row in rows)
            raise BadRow(f"the processor refuses these rows together, though none alone: {names}: {error}") from error

    def _call(self, rows: Sequence[RowText], pictures: Sequence[Sequence[Any]], side: str) -> Batch:
        options: dict[str, Any] = {"padding": True, "padding_side": side or self.padding_side, "return_tensors": "pt"}
        if self.template.opening.bos:
            options["add_special_tokens"] = False  # the template has written it
        if self.dialogue.suffix:
            suffixes = [row.suffix for row in rows]
            options["suffix"] = None if None in suffixes else suffixes
        some = any(pictures)
        made = self.processor(
            text=[row.text for row in rows], images=[list(own) for own in pictures] if some else None, **options
        )
        # PaliGemma's processor makes labels of its own, and so it does of prompts
        return {key: value for key, value in made.items() if isinstance(value, torch.Tensor) and key != "labels"}

    def _check_text(self, row: RowText) -> None:
        texts = row.text + (row.suffix or "")
        try:
            texts.encode("utf-8")
        except UnicodeEncodeError as error:
            raise BadRow(
                f"{row.name}: its text holds an unpaired surrogate, {texts[error.start]!a}, which is no character"
            ) from error
        token, soft = placeholder(self.processor), self.dialogue.image_tokens[0]
        found = texts.count(token)
        if found != len(row.pictures):
            raise BadRow(
                f"{row.name}: {found} image placeholders for {len(row.pictures)} images; a "
                f"{token!r} in its text cannot be told from an image"
            )
        if soft != token and soft in texts:
            raise BadRow(f"{row.name}: a {soft!r} in its text cannot be told from an image's soft token")

    def _labels(self, rows: Sequence[RowText], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        ids_BT = batch["input_ids"]
        if self.dialogue.suffix:
            return ids_BT.where(batch["token_type_ids"] == 1, IGNORE_INDEX)
        spans = self._spans(rows)
        try:
            if self.template.opening.special:
                return label_answers(ids_BT, spans, anchor=spans[0].header[:1], end=self._end_id)
            return torch.cat([self._labelled(span, rows[span.row], batch) for span in spans])
        except LabelLost as lost:
            raise BadRow(f"{rows[lost.span.row].name}: {lost}") from lost

    def _spans(self, rows: Sequence[RowText]) -> list[Span]:
        """The answers of all rows, their headers cut as they are cut in this very text."""
        cut = self.processor.tokenizer(
            [row.text for row in rows], add_special_tokens=False, return_offsets_mapping=True
        )
        spans = []
        for number, (row, ids, offsets) in enumerate(zip(rows, cut["input_ids"], cut["offset_mapping"], strict=True)):
            starts = [start for start, _ in offsets]
            for place in row.places:
                behind = place.at + len(place.header)
                first, stop = bisect_left(starts, place.at), bisect_left(starts, behind)
                if first == stop or offsets[stop - 1][1] > behind:
                    raise BadRow(f"{row.name}: its first characters were cut into one token with its header")
                spans.append(Span(number, place.rank, tuple(ids[first:stop]), place.ends))
        return spans

    def _labelled(self, span: Span, row: RowText, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The labels of one row whose header holds no special token (`ASSISTANT:`).

        Such a header is cut by what surrounds it, so the headers that a text holds are not those that its ids
        hold. These rows have one answer, at their end: of the headers in the ids it is the one behind which that
        answer follows.
        """
        (place,) = row.places
        ids_1T, own_1T = (batch[key][span.row : span.row + 1] for key in ("input_ids", "attention_mask"))
        decode = self.processor.tokenizer.decode
        found = torch.nonzero(matches(ids_1T, span.header)[0]).flatten().tolist()
        last = int(torch.nonzero((ids_1T[0] == self._end_id) & (own_1T[0] > 0)).max())  # padding may be the same id
        for at in reversed(found):
            if decode(ids_1T[0, at + len(span.header) : last]).strip() == place.answer.strip():
                labels_1T = torch.full_like(ids_1T, IGNORE_INDEX)
                behind = at + len(span.header)
                labels_1T[0, behind : last + 1] = ids_1T[0, behind : last + 1]
                return labels_1T
        raise LabelLost(span, "no header among the ids is followed by the answer")

    @property
    def _end_id(self) -> int:
        return int(self.processor.tokenizer.convert_tokens_to_ids(self.dialogue.end))


def _opened(row: RowText, picture: Picture) -> Any:
    try:
        return open_picture(picture)
    except BadPicture as bad:
        raise BadRow(f"{row.name}: image {bad}") from bad


def placeholder(processor: Any) -> str:
    """What stands for one image in a text before it is expanded."""
    return str(processor.image_token)


def to_device(batch: Batch, device: str) -> Batch:
    """The same batch on a device."""
    return {name: tensor.to(device) for name, tensor in batch.items()}
