"""VLC2xx: chat template, tokenizer and the prompts of training and evaluation."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, NotApplicable, Severity, Unavailable, rule
from vlcheck.rules.row_checks import names, quoted, rows_of, where

if TYPE_CHECKING:
    from vlcheck.collators.judge import CollatorChecks
    from vlcheck.data.scan import Scan
    from vlcheck.evidence.model import Skeleton
    from vlcheck.processing.chat_template import Template
    from vlcheck.processing.collator import Collator
    from vlcheck.processing.processor import FoundProcessor
    from vlcheck.spec import RunSpec


@rule("VLC217", "prompt-not-prefix", Severity.NOTE)
def prompt_not_prefix(spec: RunSpec, template: Template) -> Iterator[Finding | Examined]:
    """The generation prompt is not a prefix of the rendered conversation.

    The templates of Gemma 4 26B-A4B and 31B open an empty thought when the model is asked, which no rendered
    turn has. A mask of the prompt's length then covers the first ids of the answer, and a plain rendering
    trains on another prompt than the one that is generated from.

    Remedy: render each answer behind the generation prompt, as `vlcheck.processing.collator.Collator` does.

    Source: https://github.com/Comfy-Org/ComfyUI/pull/15278; measured with the official templates.
    """
    if template.dialogue.suffix:
        raise NotApplicable("this family takes question and answer apart, without a template")
    yield Examined(1, "generation prompt held against a rendered turn")
    if template.opening.primer:
        yield Finding(
            f"the generation prompt ends with {quoted(template.opening.primer)}, which rendered turns have not",
            where=spec.where("model.id"),
            measured={"primer": quoted(template.opening.primer)},
            fix="collate with generation prompt + answer",
        )


@rule("VLC218", "prompts-differ", Severity.WARNING)
def prompts_differ(spec: RunSpec, checks: CollatorChecks) -> Iterator[Finding | Examined]:
    """Training shows another prompt than evaluation does.

    Law: the ids before an answer in training are the ids that the model is asked with. Where they differ, the
    run adapts the model to a prompt that it never gets.

    Remedy: render each answer behind the generation prompt.

    Source: https://github.com/modelscope/ms-swift/issues/9594
    """
    rows = [row for row in rows_of(checks) if row.same_prompt is not None]
    if not rows:
        raise Unavailable("no answer was found among the ids, so that no prompt could be compared")
    yield Examined(len(rows), "rows whose prompt was compared with the evaluation prompt")
    if wrong := [row for row in rows if not row.same_prompt]:
        yield Finding(
            f"{checks.origin}: {len(wrong)} of {len(rows)} rows have another prompt than evaluation: {names(wrong)}",
            where=where(spec, checks),
            measured={"rows": len(wrong), "of": len(rows)},
            fix="render each answer behind the generation prompt",
        )


@rule("VLC220", "bos-count", Severity.ERROR, explains=("VLC218",))
def bos_count(spec: RunSpec, checks: CollatorChecks, processor: FoundProcessor) -> Iterator[Finding | Examined]:
    """A row begins with two begin-of-text tokens, or with none.

    Law: exactly one, where the tokenizer has one. A template that writes it and a tokenizer that adds it make
    two; a template without it, where the tokenizer adds none (Gemma 4), makes none. Gemma models answer badly
    without it.

    Remedy: `add_special_tokens=False` where the template writes the token; a template that writes it where the
    tokenizer does not.

    Source: https://github.com/huggingface/alignment-handbook/issues/127
    """
    bos = processor.processor.tokenizer.bos_token
    if not bos:
        raise NotApplicable("the tokenizer has no begin-of-text token")
    rows = [row for row in rows_of(checks) if row.kind != "data" and row.shape != "packed rows"]
    yield Examined(len(rows), "rows")
    if wrong := [row for row in rows if row.bos != 1]:
        yield Finding(
            f"{checks.origin}: {wrong[0].bos} {bos} in {names(wrong)}; allowed: 1",
            where=where(spec, checks),
            measured={"rows": len(wrong), "begin-of-text ids": wrong[0].bos},
            fix="add_special_tokens=False" if wrong[0].bos > 1 else f"a chat template that writes {bos}",
        )


@rule("VLC221", "columns-removed", Severity.ERROR)
def columns_removed(spec: RunSpec, skeleton: Skeleton) -> Iterator[Finding | Examined]:
    """Transformers' Trainer drops the data set's columns before the collator sees them.

    With `remove_unused_columns`, its default, every column goes that the model's forward does not name: image,
    messages and answer among them. A collator that reads them fails, or trains on text alone.

    Remedy: `remove_unused_columns: false`.

    Source: https://github.com/huggingface/transformers/issues/27535
    """
    if spec.data.collator is None:
        keeps = f"{spec.training.framework} keeps the columns that its own collator reads"
        raise NotApplicable("vlcheck's own loop drops no column" if spec.own_loop else keeps)
    if spec.origin is not None and spec.origin.own_rows:
        raise Unavailable("the script makes its rows itself, so their columns are known only when it runs")
    if skeleton.model is None:
        raise Unavailable("PEFT refuses the adapters, see VLC101 and VLC102")
    taken = set(inspect.signature(skeleton.model.forward).parameters)
    columns = {"messages", "images", spec.data.image_column, spec.data.answer_column}
    gone = sorted(columns - taken - {"label", "labels", "label_ids"})
    yield Examined(len(columns), "columns")
    if spec.training.remove_unused_columns and gone:
        yield Finding(
            f"remove_unused_columns drops {', '.join(gone)} before {spec.data.collator} is called",
            where=spec.where("training.remove_unused_columns"),
            measured={"dropped": ", ".join(gone)},
            fix="training: {remove_unused_columns: false}",
        )


@rule("VLC222", "pad-is-end", Severity.WARNING, explains=("VLC208",))
def pad_is_end(spec: RunSpec, processor: FoundProcessor, template: Template) -> Iterator[Finding | Examined]:
    """The token that pads is the token that ends an answer.

    A collator that masks the padding by its id masks the end of every answer with it, and the model never
    learns to stop.

    Remedy: another pad token, or mask by `attention_mask`.

    Source: https://github.com/huggingface/trl/issues/1623
    """
    tokenizer, end = processor.processor.tokenizer, template.dialogue.end
    yield Examined(1, "pad token")
    if tokenizer.pad_token == end:
        yield Finding(
            f"the pad token {end!r} is the token that ends an answer",
            where=spec.where("model.id"),
            measured={"pad token": tokenizer.pad_token, "end token": end},
            fix="tokenizer.pad_token = another token",
        )


@rule("VLC239", "prompts-padded-right", Severity.WARNING)
def prompts_padded_right(spec: RunSpec) -> Iterator[Finding | Examined]:
    """A script generates from prompts that are padded on the right.

    A decoder goes on behind the last id of its row. In a batch of unequal prompts, all but the longest row end in
    padding there, and their answers are those to padding: the score of a sound adapter falls, the more so the more
    its prompts differ in length. `vlcheck evaluate` pads on the left whatever a processor is set to.

    Remedy: `processor.tokenizer.padding_side = "left"` before the prompts are made; training may pad on the right.

    Source: transformers, generation/utils.py, "right-padding was detected";
    https://github.com/huggingface/transformers/issues/23401
    """
    calls = spec.origin.generations if spec.origin is not None else ()
    if not calls:
        raise NotApplicable("no script that generates in batches; vlcheck's own evaluation pads on the left")
    known = [call for call in calls if call.side]
    if not known:
        raise Unavailable("the padding side of what the script generates from is known only when it runs")
    yield Examined(len(known), "batched calls of generate")
    for call in known:
        if call.side == "right":
            yield Finding(
                "generate is given prompts that are padded on the right: all but the longest of a batch are answered "
                "behind their padding",
                where=call.where,
                measured={"padding side": call.side},
                fix='processor.tokenizer.padding_side = "left" before the prompts are made',
            )


@rule("VLC512", "label-cut-differently", Severity.NOTE)
def label_cut_differently(
    spec: RunSpec, scan: Scan, processor: FoundProcessor, own_collator: Collator
) -> Iterator[Finding | Examined]:
    """A label is cut into other tokens alone than behind the turn's header.

    A collator that tokenises the label by itself and searches those ids in the row does not find them, and
    falls back on whatever it has; a score that compares ids counts right answers as wrong. Templates that put a
    space between header and answer (SmolVLM, LLaVA-1.5) do this to every label.

    Remedy: find answers by the turn's marker; compare decoded text.

    Source: the label search of a published Gemma 4 sample; measured in tests/processing/test_real_tokenizers.py.
    """
    labels = scan.answers.labels()
    if labels is None:
        raise NotApplicable("the answers are free text, not labels that repeat")
    if processor.fallback:
        raise Unavailable("a stand-in cuts words differently from the real tokenizer", "give the model as a folder")
    yield Examined(len(labels), "labels, alone and behind the turn's header")
    cut = own_collator.cut_labels(tuple(labels))
    if unlike := [label for label, (alone, behind) in cut.items() if alone != behind]:
        alone, behind = cut[unlike[0]]
        yield Finding(
            f"{len(unlike)} of {len(labels)} labels, first {unlike[0]!r}: {len(alone)} ids alone, {len(behind)} others "
            "in the row",
            where=spec.where("data.answer_column"),
            measured={"labels": len(unlike), "of": len(labels), "alone": list(alone), "in the row": list(behind)},
            fix="find answers by the turn's marker, not by their ids",
        )
