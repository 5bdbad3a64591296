"""Where a run's framework aims its adapters: what it makes of `all-linear`, of no targets, and of parts it freezes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from vlcheck.config.defaults import framework_of
from vlcheck.config.frameworks import Fact, Framework
from vlcheck.model.family import Family, Part
from vlcheck.spec import RunSpec

ALL_LINEAR = "all-linear"


def aim(spec: RunSpec, family: Family) -> RunSpec:
    """The run with the LoRA settings that its framework hands to PEFT: what it freezes or passes over is excluded.

    The run itself comes back where the framework changes nothing, and where none is named.
    """
    lora, passed_over = spec.lora, left_out(spec, family)
    if lora is None or not passed_over:
        return spec
    regex = "|".join((*as_regexes(lora.exclude_modules), passed_over))
    return replace(spec, lora=replace(lora, target_modules=lora.target_modules or ALL_LINEAR, exclude_modules=regex))


def left_out(spec: RunSpec, family: Family) -> str:
    """A regex of the paths that the run's framework takes out of what the targets name; empty where there are none."""
    row = framework_of(spec)
    return "" if row is None else "|".join(_left_out(spec, row, family))


def withheld(spec: RunSpec, part: Part) -> str:
    """Why the run's framework gives a part no adapter, with the place that says so; empty where it is not why."""
    row = framework_of(spec)
    frozen = part.intent in spec.training.freeze
    if row is None or not (_automatic(spec) or row.freezes_named):
        return "training.freeze" if frozen and spec.lora is None else ""
    if frozen:
        default = spec.where("training.freeze").default
        return f"{row.title} freezes it unless told otherwise ({row.freezes.source})" if default else "training.freeze"
    if spec.lora is not None and _automatic(spec) and part.intent in row.spares:
        return f"all-linear of {row.title} leaves it out ({row.freezes.source})"
    picked = _picked(spec, row)
    return f"{row.title} picks the layers by their names ({picked.source})" if picked else ""


def choices_of_framework(spec: RunSpec) -> Iterator[str]:
    """What the run's framework chooses by itself of where adapters sit, and where it says so; a phrase each."""
    row = framework_of(spec)
    if row is None:
        return
    frozen = spec.training.freeze if _automatic(spec) or row.freezes_named else ()
    if frozen and spec.where("training.freeze").default:
        parts = ", ".join(part.value for part in Part if part.intent in frozen)
        yield f"{row.title} gives no adapter to {parts} unless training.freeze says otherwise ({row.freezes.source})"
    if picked := _picked(spec, row):
        yield f"{row.title} picks the layers by their names ({picked.source})"


def as_regexes(written: str | Sequence[str] | None) -> list[str]:
    """Entries as PEFT matches them, as regexes for the whole path: those of a list are ends of it."""
    if isinstance(written, str):
        return [written]
    return [rf"(.*\.)?({'|'.join(map(re.escape, written))})"] if written else []


def _left_out(spec: RunSpec, row: Framework, family: Family) -> Iterator[str]:
    automatic = _automatic(spec)
    frozen = {*(spec.training.freeze if automatic or row.freezes_named else ()), *(row.spares if automatic else ())}
    for root, part in family.parts.items():
        if part.intent in frozen:
            inner = [path.removeprefix(root) for path in family.parts if path.startswith(f"{root}.")]
            kept = [re.escape(path) for path in inner if family.parts[root + path].intent not in frozen]
            spared = rf"(?!({'|'.join(kept)})(\.|$))" if kept else ""
            yield rf"{re.escape(root)}{spared}(\..*)?"
    if picked := _picked(spec, row):
        yield rf"(?!({picked.value})$).*"


def _automatic(spec: RunSpec) -> bool:
    """Whether no layer is named."""
    targets = spec.lora and spec.lora.target_modules
    return targets is None or (isinstance(targets, str) and targets.lower() == ALL_LINEAR)


def _picked(spec: RunSpec, row: Framework) -> Fact[str] | None:
    """What a framework that picks layers by their names takes for this run."""
    if spec.lora is None or not _automatic(spec):
        return None
    return row.unset if spec.lora.target_modules is None else row.all_linear
