"""What a finding advises, read as settings, and applied to the run that caused it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, fields, replace
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tests.broken import patches
from tests.samples import BASE, ROWS, Collected, Run, model_on_a_card, untouched
from vlcheck import spec as description
from vlcheck.engine import audit
from vlcheck.evidence.collectors import COLLECTORS
from vlcheck.finding import Finding, Report
from vlcheck.rules import RULES
from vlcheck.spec import RunSpec

SECTIONS: Mapping[str, type] = {
    "model": description.ModelRef, "quantization": description.Quantization, "lora": description.Lora,
    "data": description.Data, "training": description.Training, "hardware": description.Hardware,
    "launch": description.Launch, "intent": description.Intent,
}  # fmt: skip
HOME = {field.name: section for section, of in SECTIONS.items() for field in fields(of)}
SETTINGS = ("VLC1", "VLC4", "VLC8")
"""Rules of what settings of the model and the adapters do; a card and a collator bring their own."""
TWICE = {"memory_gib"}
"""Keys of two sections: a fix has to name the section."""


def needs(evidence: str, *, of: Callable[..., Any]) -> bool:
    """Whether a rule or a collector asks for this evidence, itself or by way of what it asks for."""
    asked = inspect.signature(of).parameters.keys() & COLLECTORS.keys()
    return evidence in asked or any(needs(evidence, of=COLLECTORS[name]) for name in asked)


STRUCTURAL = tuple(rule.code for rule in RULES if rule.code.startswith(SETTINGS) and not needs("tiny", of=rule.check))
"""Rules of settings that are judged without running a miniature."""


def assert_works(sample: Run, collected: Collected, asked: Collection[str], beside: Collection[str]) -> int:
    """Apply every alternative of a fix that is settings: that finding goes, nothing as bad comes.

    An alternative that writes `key: value` of the config is settings from its first word to its last.

    Args:
        sample: the run.
        collected: evidence of it.
        asked: rules whose advice is taken.
        beside: rules of which nothing new may speak up.

    Returns:
        how many alternatives were applied.
    """
    before = collected.audit(select=asked)
    advised = [(o.rule, f, a) for o in before.found() for f in o.findings for a in alternatives(f)]
    for rule, _, advice in advised:
        written = {*re.findall(r"\b(\w+): ", advice)} & {*HOME, *SECTIONS}
        assert settings(advice) or not written, f"{rule.code}: {advice!r} cannot be typed"
    advised = [(rule, finding, advice) for rule, finding, advice in advised if settings(advice)]
    memory = ("VLC3",) if "gpu" in sample.given else ()
    selected = (*{*beside, *memory, *(rule.code for rule, _, _ in advised)},)
    if advised:
        before = collected.audit(select=(*{*selected, *asked},))
    spec = collected.spec
    for rule, finding, advice in advised:
        after = judged(sample, applied(spec, settings(advice)), selected)
        assert key(rule.code, finding) not in keys(after), f"{rule.code}: {advice!r} leaves {finding.message}"
        new = {
            (o.rule.code, f.message)
            for o in after.found(rule.severity)
            for f in o.findings
            if key(o.rule.code, f) not in keys(before)
        }
        assert not new, f"{rule.code}: {advice!r} brings {new}"
    return len(advised)


def judged(sample: Run, spec: RunSpec, selected: tuple[str, ...]) -> Report:
    """The report on a run that differs from a sample's in its description alone."""
    known = {"reference": untouched(sample.model), **sample.handed()}
    if "gpu" in known and all(getattr(spec, each) == getattr(BASE, each) for each in ("lora", "quantization", "data")):
        known |= model_on_a_card(sample.model, spec.training, spec.model.attn_implementation)
    with patches.undone():
        return audit(spec, allow_code=True, offline=True, rows=ROWS, select=selected, **known)


def key(code: str, finding: Finding) -> tuple[str, str]:
    """What makes two findings of two reports the same one."""
    part = re.match(r"[\w ]+(?=:| is)", finding.message)
    return code, finding.where.key + (part[0] if part else "")


def keys(report: Report) -> set[tuple[str, str]]:
    return {key(o.rule.code, f) for o in report.found() for f in o.findings}


def alternatives(finding: Finding) -> list[str]:
    """What a fix offers to choose from; the memory rules put the peak behind it."""
    fix = re.sub(r": [\d.]+ GiB$", "", finding.fix).replace(" with gradient_accumulation", ", gradient_accumulation")
    return [part for part in re.split(r"; or |, or ", fix) if part]


def settings(advice: str) -> dict[str, Any]:
    """Dotted field to value, where every word of the advice is a setting; else nothing."""
    try:
        read = YAML(typ="safe", pure=True).load("{" + advice + "}")
    except YAMLError:
        return {}
    changes: dict[str, Any] = {}
    for name, value in (read or {}).items():
        if str(name).startswith("remove ") and value is None and name[7:] in HOME:
            field = next(f for f in fields(SECTIONS[HOME[name[7:]]]) if f.name == name[7:])
            default = field.default if field.default is not MISSING else field.default_factory()
            changes[f"{HOME[field.name]}.{field.name}"] = default
        elif name in SECTIONS and isinstance(value, dict):
            changes |= {f"{name}.{inner}": plain(inner, given) for inner, given in value.items()}
        elif name in HOME and name not in TWICE and value is not None:
            changes[f"{HOME[name]}.{name}"] = plain(name, value)
        else:
            return {}
    return changes


def plain(name: str, value: Any) -> Any:
    if name == "gradient_checkpointing_kwargs":
        return description.CheckpointingKwargs(**value)
    return tuple(value) if isinstance(value, list) else value


def applied(spec: RunSpec, changes: Mapping[str, Any]) -> RunSpec:
    """The run with these fields changed, section by section: some exclude each other on the way."""
    sections: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        section, _, name = path.partition(".")
        sections.setdefault(section, {})[name] = value
    return replace(spec, **{name: replace(getattr(spec, name), **values) for name, values in sections.items()})
