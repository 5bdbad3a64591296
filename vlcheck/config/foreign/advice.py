"""What a finding advises, written in the keys of the file that the run was read from.

Rules advise settings of a run by their own names (`max_length: 2048`, `remove modules_to_save`). A file of another tool
has other names for them, and its table says which: a field is written as the key that is mapped to it. What a format
writes in another way stands in `WRITES`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from vlcheck.config.foreign import axolotl, huggingface, llamafactory, ms_swift, trl
from vlcheck.config.foreign.adapters import BITSANDBYTES
from vlcheck.config.foreign.keys import To, Write, named
from vlcheck.config.foreign.translate import Format
from vlcheck.config.validation.allowed import keys, sections
from vlcheck.finding import Json, Outcome
from vlcheck.spec import Origin


def _switched(switches: Mapping[str, str]) -> Write:
    """Frozen parts, each by a switch of its own; the language model's only where it is frozen."""

    def written(frozen: Json) -> str:
        if not isinstance(frozen, list):
            return next(iter(switches.values()))
        told = {key: part in frozen for part, key in switches.items() if part != "language" or part in frozen}
        return ", ".join(named(key)(on) for key, on in told.items())

    return written


def _reentrant(value: Json) -> str:
    return named("use_reentrant_gc")(value.get("use_reentrant") if isinstance(value, dict) else None)


def _inside(outer: str, key: str) -> Write:
    return lambda value: key if value is None else f"{outer}: {{{named(key)(value)}}}"


def _is_regex(value: Json) -> bool:
    return isinstance(value, str) and value != "all-linear"


_KWARGS = {"training.gradient_checkpointing_kwargs": named("gradient_checkpointing_kwargs")}
_FLASH = {theirs: key for key, theirs in llamafactory.ATTENTION.items()}

WRITES: Mapping[str, Mapping[str, Write]] = {
    trl.NAME: {
        **_KWARGS,
        "lora.target_modules": named("lora_target_modules"),
        "model.dtype": named("dtype"),
        **{f"quantization.{field}": named(key) for key, field in trl.BITS.items()},
    },
    axolotl.NAME: {
        **_KWARGS,
        **{f"training.{name}": named(name) for name in ("bf16", "fp16", "gradient_checkpointing")},
        "lora.target_modules": lambda value: (
            "lora_target_linear: true" if value == "all-linear" else named("lora_target_modules")(value)
        ),
        **{fate.path: _inside("bnb_config_kwargs", key) for key, fate in BITSANDBYTES.items() if isinstance(fate, To)},
    },
    llamafactory.NAME: {
        "lora.target_modules": lambda value: (  # it splits a text at its commas, and knows no regex
            "" if _is_regex(value) else named("lora_target")("all" if value == "all-linear" else value)
        ),
        "model.attn_implementation": lambda value: named("flash_attn")(_FLASH.get(str(value), value)),
        "training.freeze": _switched(llamafactory.SWITCHES),
        "training.gradient_checkpointing": lambda value: named("disable_gradient_checkpointing")(
            None if value is None else not value
        ),
        "training.gradient_checkpointing_kwargs": _reentrant,
    },
    ms_swift.NAME: {
        **_KWARGS,
        "data.max_soft_tokens": lambda value: "IMAGE_MAX_TOKEN_NUM" + ("" if value is None else f"={value}"),
        "lora.target_modules": lambda value: named("target_regex" if _is_regex(value) else "target_modules")(value),
        "training.freeze": _switched(ms_swift.SWITCHES),
        **{
            f"quantization.bnb_4bit_{name}": named(f"bnb_4bit_{name}")
            for name in ("quant_type", "use_double_quant", "compute_dtype", "quant_storage")
        },
    },
    huggingface.NAME: {
        **_KWARGS,
        **{fate.path: named(key) for key, fate in huggingface.ADAPTER_KEYS.items() if isinstance(fate, To)},
    },
}
"""By format, the fields that its keys hold in another way, or that its `settle` reads."""
FORMATS: Mapping[str, Format] = {
    module.NAME: module.FORMAT for module in (axolotl, huggingface, llamafactory, ms_swift, trl)
}
NATIVE = " (in a vlcheck config)"
"""Follows a setting for which the file's format has no key."""
_PEAK = re.compile(r": [\d.]+ \wiB\Z")
_OR = re.compile(r"(; or |, or )")


def in_own_keys(outcome: Outcome, origin: Origin) -> Outcome:
    """The outcome of a rule with what its findings advise in the words of the file that the run was read from."""
    form = FORMATS.get(origin.format)
    if form is None:  # arguments of a script's calls are called as the fields are
        return outcome
    return replace(
        outcome, findings=tuple(replace(found, fix=rewritten(found.fix, form)) for found in outcome.findings)
    )


def rewritten(fix: str, form: Format) -> str:
    """A remedy, each of its alternatives in a format's keys; settings that it has no key for are marked."""
    return "".join(part if _OR.fullmatch(part) else _alternative(part, form) for part in _OR.split(fix))


def writes(form: Format) -> Mapping[str, Write]:
    """Dotted path of each field that a format has a key for, to how it is written there."""
    held = [(fate.path, key) for key, fate in form.keys.items() if isinstance(fate, To)]
    own = [(path, key) for path, key in held if path.endswith(f".{key}")]  # of two keys the one that is called alike
    return {**{path: named(key) for path, key in held[::-1] + own}, **WRITES[form.name]}


def _alternative(advice: str, form: Format) -> str:
    peak = _PEAK.search(advice)
    bare = advice[: peak.start()] if peak else advice
    settings = _settings(bare)
    if not settings:
        return _prose(bare, form) + advice[len(bare) :]
    known = writes(form)
    written = [
        known[path](value) and ("remove " * (value is None) + known[path](value)) if path in known else ""
        for path, value in settings
    ]
    return (", ".join(written) if all(written) else f"{bare}{NATIVE}") + advice[len(bare) :]


def _prose(sentence: str, form: Format) -> str:
    """A sentence with the names of fields, where they cannot be taken for another word, as the format's keys."""
    known = writes(form)

    def key(found: re.Match[str]) -> str:
        path = homes().get(found[0], "")
        return known[path](None) or found[0] if path in known else found[0]

    return re.sub(r"(?<![\w.])[a-z0-9]+(?:_[a-z0-9]+)+(?![\w.(])", key, sentence)


def _settings(advice: str) -> list[tuple[str, Json]]:
    """Dotted fields and values, None for one that is to be removed; nothing where a word of it is no setting."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        read = YAML(typ="safe", pure=True).load("{" + advice + "}")
    except YAMLError:
        return []
    pairs = list(_pairs(read or {}))
    return pairs if all(path for path, _ in pairs) else []


def _pairs(read: Mapping[str, Any]) -> Iterator[tuple[str, Json]]:
    for name, value in read.items():
        if name in sections() and isinstance(value, dict):
            yield from ((f"{name}.{inner}", given) for inner, given in value.items())
        elif value is None:
            yield homes().get(str(name).removeprefix("remove "), "") if str(name).startswith("remove ") else "", None
        else:
            yield homes().get(str(name), ""), value


@cache
def homes() -> Mapping[str, str]:
    """Name of a field to its dotted path, where one section alone has it; no other tool's file has those of a job."""
    fields = {section: keys(hint) for section, hint in sections().items() if section not in ("launch", "gate")}
    found = [(name, f"{section}.{name}") for section, names in fields.items() for name in names]
    names = [name for name, _ in found]
    return {name: path for name, path in found if names.count(name) == 1}
