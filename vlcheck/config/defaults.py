"""What a run's framework does where its config says nothing, filled in and marked."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

from vlcheck.config.frameworks import FRAMEWORKS, Framework
from vlcheck.spec import ConfigError, Location, Problem, RunSpec


def framework_of(spec: RunSpec) -> Framework | None:
    """The row that a run is judged by; None for vlcheck's own loop, one that is not known, or none named.

    The run's own version takes the newest row that is not newer, else the oldest.
    """
    rows = [row for row in FRAMEWORKS if row.name == spec.training.framework]
    wanted = spec.training.framework_version
    if wanted is None:
        return rows[0] if rows else None
    reached = [row for row in rows if _numbers(row.version) <= _numbers(wanted)[: len(_numbers(row.version))]]
    return next(iter(reached or rows[-1:]), None)


def settled(spec: RunSpec) -> RunSpec:
    """The run with its framework's defaults wherever the config says nothing.

    A value that the config holds stays, null included. What was filled in has a place in `sources` that says whose
    default it is. A run that was described in code has no places, so nothing can be told from a default: it is to be
    settled by whoever describes it.
    """
    row = framework_of(spec)
    if row is None:
        return spec
    label = f"default of {row.title}"
    if (wanted := spec.training.framework_version) and not wanted.startswith(row.version):
        label += f", the version that is known; the run's is {wanted}"
    sources = dict(spec.sources)
    frozen = {"training.freeze": row.freezes} if row.freezes.value else {}
    own_file = spec.origin is not None and spec.origin.format == row.name
    for path, fact in {**frozen, **row.defaults, **(row.file_defaults if own_file else {})}.items():
        if _said(spec, path):
            continue
        value = fact.value(spec) if callable(fact.value) else fact.value
        spec = _with(spec, path, value)
        where = spec.where(path)
        sources[path] = Location(where.file, where.line, where.column, path, label)
    return replace(spec, sources=MappingProxyType(sources))


def with_adapters(spec: RunSpec) -> RunSpec:
    """The run, if it trains adapters: all that vlcheck's own loop trains, saves and evaluates.

    Raises:
        ConfigError: if it has no `lora`; the message says whose job such a run is.
    """
    if spec.lora is not None:
        return spec
    name = spec.training.framework
    whose = f"{name}'s" if name not in (None, "vlcheck", "other") else "another framework's"
    message = (
        f"section lora is missing, so every weight is trained: that is {whose} job, and vlcheck's own loop trains "
        "adapters alone; allowed: a section lora"
    )
    raise ConfigError(Problem(spec.where("lora"), message))


def own_loop(spec: RunSpec, *, force: bool = False) -> RunSpec:
    """The run, if vlcheck's own loop is the one that it means, or none is named.

    Args:
        force: whatever loop it means.

    Raises:
        ConfigError: if it names another framework, and the message says whose loop would run; if it trains no adapters.
    """
    with_adapters(spec)
    name = spec.training.framework
    if force or spec.own_loop:
        return spec
    row = framework_of(spec)
    whose = "a loop that is not vlcheck's" if row is None else f"the loop of {row.name}"
    message = (
        f"training.framework is {name}: this run is meant for {whose}, and this command would run vlcheck's own; "
        "allowed: framework: vlcheck, or --force"
    )
    raise ConfigError(Problem(spec.where("training.framework"), message))


def _said(spec: RunSpec, path: str) -> bool:
    """Whether the config decides a value: by its own key, or by one that excludes it."""
    section, _, key = path.partition(".")
    if path in spec.sources or (key and getattr(spec, section) is None):
        return True
    if path == "training.bf16":
        return spec.training.fp16
    if path == "quantization":
        return spec.lora is None
    return path == "training.gradient_checkpointing_kwargs" and not spec.training.gradient_checkpointing


def _with(spec: RunSpec, path: str, value: Any) -> RunSpec:
    section, _, key = path.partition(".")
    if not key:
        return replace(spec, **{section: value})
    part = getattr(spec, section)
    return replace(spec, **{section: replace(part, **{key: value})})


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split(".") if number.isdigit())
