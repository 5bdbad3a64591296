"""VLC9xx: whose run the report is about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, Severity, rule

if TYPE_CHECKING:
    from vlcheck.spec import RunSpec


@rule("VLC901", "framework-unnamed", Severity.WARNING)
def framework_unnamed(spec: RunSpec) -> Iterator[Finding | Examined]:
    """The config does not say which framework will train, so the report is about vlcheck's own loop.

    Frameworks differ in what they supervise, where they compute logits, how long a row may be, which type a model is
    loaded in and what they do for a setting that is left out. vlcheck's own collator masks the prompt, and its logits
    are those of supervised positions; TRL's collator for images supervises everything, and transformers' loss takes
    logits everywhere. Labels and memory are then judged right for a run that never starts.

    Remedy: `training: {framework: trl}`, or transformers, axolotl, llamafactory, ms-swift, unsloth, other; `vlcheck`
    where `vlcheck train` will run it.

    Source: vlcheck/config/frameworks/, which cites each framework's own files
    """
    yield Examined(1, "name of a framework")
    if spec.training.framework is None:
        yield Finding(
            "no framework is named: labels, logits and defaults were judged as vlcheck's own loop has them",
            where=spec.where("training.framework"),
            fix="framework: trl, or whose loop will run; vlcheck for `vlcheck train`",
        )
