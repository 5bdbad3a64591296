"""A merge for people: what changed, what was verified, what was not, and what to know before it is served."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vlcheck.gpus import show_gib
from vlcheck.reports.units import plain


def render_merge(document: Mapping[str, Any], *, checked: bool = False) -> str:
    """What a merge did, or what a check of a merged folder found, one line a fact.

    Args:
        checked: the folder was there before.
    """
    return "".join(f"{plain(line)}\n" for line in _lines(document, checked))


def _lines(document: Mapping[str, Any], checked: bool) -> Iterator[str]:
    base, changed = document["base"], len(document["changed"])
    yield (
        f"{document['adapter']['folder']} into {base['model']}: {changed} tensors change, {document['untouched']} "
        f"stay; {base['files']} file{'s' * (base['files'] != 1)}, {show_gib(base['bytes'])}, {document['dtype']}"
    )
    for fault in document["faults"]:
        yield f"fault: {fault}"
    if not document["faults"]:
        yield (
            f"files: base plus delta in every changed tensor, off by {document['units']:.2g} units in the last place "
            f"at most; rounding kept {document['kept']:.1%} of the delta or more; all else is the base's byte for byte"
        )
    if logits := document["logits"]:
        yield (
            f"logits: merged and unmerged {logits['gap']:.2g} of their spread apart, allowed "
            f"{logits['tolerance']:.2g}, moved by the adapter {logits['effect']:.2g}; the same token leads at "
            f"{logits['agree']:.1%} of {logits['positions']} positions"
        )
    yield _served(document["serving"])
    for note in document["notes"]:
        yield f"note: {note}"
    if checked:
        yield f"{document['out']}: {'not base plus adapter' if document['faults'] else 'base plus adapter'}"
    else:
        yield f"written to {document['out']}; next: vlcheck evaluate CONFIG --merged {document['out']}"


def _served(serving: Mapping[str, Any]) -> str:
    """What vLLM makes of the names."""
    if serving["expected"] is None:
        names = f"no source was found for the names that it expects of {serving['architecture'] or 'this model'}"
    elif serving["expected"]:
        names = f"the names are those that it expects of {serving['architecture']} ({serving['version']})"
    else:
        names = f"{serving['strange'][0]} has no place in its {serving['architecture']} ({serving['version']})"
    lora = {True: "; it serves adapters unmerged too", False: "; it does not serve its adapters unmerged"}
    return f"vLLM: {names}{lora.get(serving['lora'], '')}"
