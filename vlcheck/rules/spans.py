"""VLC2xx: where a collator's span of labels stands, and what moves it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, NotApplicable, Severity, Unavailable, rule
from vlcheck.rules.row_checks import distance, first_of, measured, names, no_rows, quoted, rows_of, where

if TYPE_CHECKING:
    from vlcheck.collators.judge import CollatorChecks
    from vlcheck.collators.rows import RowCheck
    from vlcheck.processing.chat_template import Template
    from vlcheck.processing.lengths import LongRows
    from vlcheck.spec import RunSpec

TOO_LONG = {"cut": "cuts it there", "dropped": "leaves it out"}
"""What a framework does with a row that is longer than its limit, by the word of its row."""


@rule("VLC201", "span-moves", Severity.ERROR, explains=("VLC202", "VLC205", "VLC206", "VLC208", "VLC209", "VLC210"))
def span_moves(spec: RunSpec, checks: CollatorChecks) -> Iterator[Finding | Examined]:
    """The supervised span moves with the number of soft tokens.

    Law: growing an image moves no label. An image becomes a variable number of soft tokens; a mask that was
    measured on the text alone, its image one placeholder, begins too early by all of them, and trains the model
    on its own prompt and image. The same row is collated with pictures from 20:1 to 1:20, and at every budget.

    Remedy: derive labels from the ids that the processor returns, as `vlcheck.processing.collator.Collator` does.

    Source: https://github.com/huggingface/trl/issues/3751; measured in tests/collators/test_foreign.py.
    """
    rows = [row for row in rows_of(checks, beyond=True) if row.answers == 1]
    yield Examined(len(rows), "rows")
    yield Examined(len({row.soft_tokens for row in rows if row.kind == "grown"}), "numbers of soft tokens")
    spans = [row for row in rows if row.gap is not None and row.contiguous and not row.unmasked and not row.moved]
    grown = {row.soft_tokens: row for row in spans if row.kind == "grown"}
    short = {  # with or without the token that some tokenizers begin every text with
        row.soft_tokens: row for row in spans if row.gap and row.unexpanded_gap - row.gap in (0, 1)
    }
    moves = len({row.gap for row in grown.values()}) > 1 and any(row.gap for row in grown.values())
    if moves or short:
        shown = sorted((grown if moves else short).values(), key=lambda row: row.soft_tokens)
        first, last = shown[0], shown[-1]
        yield Finding(
            f"{checks.origin}: the first label stands {distance(first.gap)} from the answer at {first.soft_tokens} "
            f"soft tokens and {distance(last.gap)} at {last.soft_tokens}; allowed: 0 in both",
            where=where(spec, checks),
            measured={"soft tokens": [row.soft_tokens for row in shown], "ids from the answer": [r.gap for r in shown]},
            fix="take the span from input_ids after the processor expanded the images",
        )


@rule("VLC203", "answer-truncated", Severity.ERROR,
      explains=("VLC202", "VLC205", "VLC206", "VLC208", "VLC211", "VLC215", "VLC218", "VLC220"))  # fmt: skip
def answer_truncated(
    spec: RunSpec, checks: CollatorChecks, long_rows: LongRows | None = None
) -> Iterator[Finding | Examined]:
    """A row's answer is cut off, or the row is longer than the run allows.

    Law: truncation never cuts an answer or an image. Images come first and take hundreds of ids, so a cut on
    the right falls on the answer: the row then trains nothing, or whatever a fallback of the collator picks; a cut
    on the left takes image and question. Only a row that ends where its conversation goes on, or begins in the
    middle of a turn, counts as cut; other words show in VLC232, a cut image in VLC215. Every row of the training
    split is held against `max_length`.

    Remedy: raise `max_length`, lower `max_soft_tokens`, or drop such rows and count them (`data.overflow: drop`).

    Source: https://github.com/huggingface/trl/issues/4289
    """
    from vlcheck.config.defaults import framework_of

    rows, limit = rows_of(checks), spec.data.max_length
    longest = max(rows, key=lambda row: row.tokens)
    yield Examined(len(rows), "rows")
    yield Examined(longest.tokens, "tokens in the longest" + (f", of {limit} allowed" if limit else ""))
    cut = [row for row in rows if row.cut]
    limited = checks.ours or (not spec.own_loop and spec.data.collator is None)
    framework = None if checks.ours else framework_of(spec)
    does = "" if framework is None else framework.too_long.value
    met = [row for row in rows if row.kind == "data"] or rows  # a built-in row stands for data that was not read
    held = limited and limit and spec.data.overflow == "error" and does != "kept"
    long = _longer(met, limit or 0, long_rows) if held else {}
    if long_rows is not None and long_rows.measured:
        yield Examined(long_rows.measured, "rows of the data measured")
    if cut:
        worst = max(cut, key=lambda row: row.answers - row.found)
        yield Finding(
            f"{checks.origin}: {worst.name} was cut: its {worst.tokens} ids hold {worst.found} of {worst.answers} "
            f"answers and {worst.soft_tokens} of {worst.expected_soft_tokens} soft tokens; allowed: all",
            where=where(spec, checks),
            measured={**measured(cut, worst), "tokens": worst.tokens},
            fix="raise max_length above the longest row, or lower max_soft_tokens",
        )
    elif long:
        name, tokens = max(long.items(), key=lambda each: each[1])
        then = f"{framework.title} {TOO_LONG[does]}" if framework else "Training stops there"
        yield Finding(
            f"{name}: {tokens} tokens after image expansion; allowed: at most {limit}. {then}",
            where=spec.where("data.max_length"),
            measured={"rows": len(long), "longest row": tokens, "max length": limit},
            fix=f"max_length: {tokens}; or {'' if framework else 'overflow: drop; or '}a lower max_soft_tokens",
        )


def _longer(rows: Sequence[RowCheck], limit: int, long_rows: LongRows | None) -> dict[str, int]:
    """Tokens of the rows that are too long, by name: of those that were judged, and of all that were measured."""
    return dict(long_rows.over if long_rows else ()) | {row.name: row.tokens for row in rows if row.tokens > limit}


@rule("VLC226", "rows-dropped", Severity.NOTE)
def rows_dropped(
    spec: RunSpec, checks: CollatorChecks, long_rows: LongRows | None = None
) -> Iterator[Finding | Examined]:
    """Rows are longer than `max_length` and will be left out, as the config says.

    Law: nothing is lost silently. `data.overflow: drop` leaves such rows out and counts them; where images are
    what makes them long, it is the large images that the run never sees.

    Remedy: raise `max_length`, or lower `max_soft_tokens`.

    Source: https://github.com/huggingface/trl/issues/4289
    """
    limit = spec.data.max_length
    if limit is None or spec.data.overflow != "drop" or not checks.ours:
        raise NotApplicable("no row is left out for its length")
    rows = rows_of(checks)
    yield Examined(len(rows), "rows")
    judged, long = len(rows), _longer(rows, limit, None)
    if long_rows is not None and long_rows.measured:
        judged, long = long_rows.measured, dict(long_rows.over)
    if long:
        yield Finding(
            f"{len(long):,} of {judged:,} rows are longer than {limit} tokens and will be left out: {first_of(long)}",
            where=spec.where("data.max_length"),
            measured={"rows": len(long), "longest row": max(long.values()), "max length": limit},
            fix=f"max_length: {max(long.values())}",
        )


@rule("VLC212", "label-shift", Severity.ERROR,
      explains=("VLC202", "VLC205", "VLC206", "VLC208", "VLC209", "VLC210"))  # fmt: skip
def label_shift(spec: RunSpec, checks: CollatorChecks) -> Iterator[Finding | Examined]:
    """Labels stand one place or more beside the ids that they belong to.

    Law: a label that is not -100 is the id at its own position. transformers' models shift labels themselves;
    a collator that shifts them too, or that is off by one, trains every id on the wrong target.

    Remedy: `labels[i] = input_ids[i]` for supervised positions, without any shift.

    Source: measured in tests/collators/test_foreign.py.
    """
    rows = rows_of(checks)
    yield Examined(sum(sum(row.supervised.values()) for row in rows), "labels")
    if wrong := [row for row in rows if row.moved or row.foreign_labels]:
        worst = wrong[0]
        moved = f"labels stand {distance(worst.moved)} from where they ought to" if worst.moved else ""
        foreign = f"{worst.foreign_labels} labels are not the id at their position" if worst.foreign_labels else ""
        yield Finding(
            f"{checks.origin}: {' and '.join(filter(None, (moved, foreign)))} in {names(wrong)}",
            where=where(spec, checks),
            measured={**measured(wrong, worst), "shift": worst.moved, "labels unlike their id": worst.foreign_labels},
            fix="labels[i] = input_ids[i]; the model shifts by itself",
        )


@rule("VLC213", "anchor-in-prompt", Severity.ERROR,
      explains=("VLC202", "VLC205", "VLC206", "VLC208", "VLC209", "VLC210"))  # fmt: skip
def anchor_in_prompt(spec: RunSpec, checks: CollatorChecks) -> Iterator[Finding | Examined]:
    """The collator finds the answer's words in the prompt, and labels from there.

    Law: what a question says moves no label. A prompt that lists all classes holds every answer; a search for
    the answer's ids that takes the first, or that takes the last where the answer itself is cut into other
    tokens, stops in the list. The same row is collated once more with another word
    of the same length in the answer's place.

    Remedy: look for the turn's marker among the ids, never for the answer's words.

    Source: the label search of a published Gemma 4 sample.
    """
    listed, control = checks.of("listed"), checks.of("unlisted")
    if not listed or not control:
        raise Unavailable(no_rows(checks), "make the collator accept a single-turn row with one image")
    yield Examined(len(control) + len(listed), "rows, with and without the answer in the question")
    if control[0].correct and not listed[0].correct:
        yield Finding(
            f"{checks.origin}: right where the question does not hold the answer; where it does, the labels say "
            f"{quoted(listed[0].text)}",
            where=where(spec, checks),
            measured=measured(listed, listed[0]),
            fix="search for the turn's marker, not for the answer",
        )


@rule("VLC227", "prefix-swallows-answer", Severity.ERROR, explains=("VLC206", "VLC208", "VLC211"))
def prefix_swallows_answer(spec: RunSpec, checks: CollatorChecks, template: Template) -> Iterator[Finding | Examined]:
    """The mask is as long as the generation prompt, which the row does not start with.

    Law: what is masked is what the row itself holds before the answer. Where the generation prompt opens an
    empty thought that the rendered row has not (Gemma 4 26B-A4B and 31B), a mask of its length runs on into the
    answer by just as many ids, and short answers vanish.

    Remedy: render each answer behind the generation prompt, then find it among the row's own ids.

    Source: https://github.com/Comfy-Org/ComfyUI/pull/15278; measured with the official templates.
    """
    if not template.opening.primer:
        raise NotApplicable("the generation prompt is a prefix of the rendered conversation")
    rows = rows_of(checks)
    primer = len(template.processor.tokenizer(template.opening.primer, add_special_tokens=False)["input_ids"])
    yield Examined(len(rows), "rows")
    yield Examined(primer, "ids that the generation prompt opens")
    single = [row for row in rows if row.answers == 1]
    late = [row for row in single if row.gap == primer]
    if late and all(row.gap in (primer, None) for row in single):
        yield Finding(
            f"{checks.origin}: the first label stands {primer} ids behind the answer's first id, as many as the "
            f"generation prompt opens and the row has not: {names(late)}",
            where=where(spec, checks),
            measured={**measured(late, late[0]), "ids opened by the generation prompt": primer},
            fix="render each answer behind the generation prompt",
        )
