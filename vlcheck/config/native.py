"""vlcheck's own dialect: the sections of `RunSpec`, with the field names of the libraries."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vlcheck.config.reading.quoting import closest
from vlcheck.config.validation.allowed import sections
from vlcheck.config.validation.field_problems import field_problems
from vlcheck.config.validation.local_paths import path_problems, resolved_data, resolved_model
from vlcheck.finding import Json
from vlcheck.spec import (
    ConfigError,
    Data,
    Gate,
    Hardware,
    Intent,
    Launch,
    Location,
    Lora,
    ModelRef,
    Problem,
    Quantization,
    RunSpec,
    Training,
    objections,
)

NAME = "native"
RECOGNISED_BY = f"a top-level section: {', '.join(sections())}"

MOST_STRANGERS = 8
"""Top-level keys that are no section: with more, the file is another tool's, and is not told of each."""


class NativeConfig(BaseModel):
    """A native config, validated; stdlib dataclasses inherit this model's config."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)

    model: ModelRef
    lora: Lora = Field(default=None)  # type: ignore[assignment]  # left out; written as null it is no section
    quantization: Quantization | None = None
    data: Data = Data()
    training: Training = Training()
    hardware: Hardware = Hardware()
    launch: Launch = Launch()
    intent: Intent = Intent()
    gate: Gate | None = None


def owns(document: Mapping[str, Json]) -> bool:
    """Tell whether the file can only be vlcheck's: its `model` is a section, where every other tool has a name."""
    return isinstance(document.get("model"), Mapping) and recognises(document)


def recognises(document: Mapping[str, Json]) -> bool:
    """Tell whether a top-level key is a section's name, or nearly one."""
    names = sections()
    keys = list(islice(document, 100))
    ours = [key for key in keys if key in names or closest(key, names)]
    return bool(ours) and len(keys) - len(ours) <= MOST_STRANGERS


def to_spec(
    document: Mapping[str, Json], sources: Mapping[str, Location], folder: Path, *, stated: str | None = None
) -> RunSpec:
    """Validate a native document.

    Args:
        document: what the file holds, as plain values.
        sources: dotted path to the place that set it.
        folder: what relative paths in the document are relative to.
        stated: version of the framework that outranks the document's.

    Raises:
        ConfigError: with every problem of the document, sorted by place.
    """
    where = _places(sources)
    problems = []
    config = None
    try:
        config = NativeConfig.model_validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        problems = field_problems(error, document, where)
    else:
        against = objections(config.lora, config.quantization, config.training)
        problems = [Problem(where(path), f"{'.'.join(path)}: {message}") for path, message in against]
    problems += [Problem(where(path), message) for path, message in path_problems(document, folder)]
    if problems or config is None:
        raise ConfigError(*sorted(problems, key=lambda problem: (problem.where, problem.message)))
    lora = config.lora
    training = config.training if stated is None else replace(config.training, framework_version=stated)
    return RunSpec(
        model=resolved_model(config.model, folder),
        lora=lora
        and replace(
            lora,
            rank_pattern=MappingProxyType(dict(lora.rank_pattern)),
            alpha_pattern=MappingProxyType(dict(lora.alpha_pattern)),
        ),
        quantization=config.quantization,
        data=resolved_data(config.data, folder),
        training=training,
        hardware=config.hardware,
        launch=config.launch,
        intent=config.intent,
        gate=config.gate,
        sources=MappingProxyType(dict(sources)),
    )


def schema() -> dict[str, Any]:
    """JSON Schema of the native dialect, for editors; every key has a description."""

    # Attribute docstrings are read from source, which only the schema should pay for.
    class Documented(NativeConfig):
        model_config = ConfigDict(use_attribute_docstrings=True)

    generated = Documented.model_json_schema()
    for name, entry in generated["properties"].items():
        reference = entry["anyOf"][0]["$ref"] if "anyOf" in entry else entry["$ref"]
        entry["description"] = generated["$defs"][reference.rpartition("/")[2]]["description"]
        if name not in ("quantization", "gate"):
            entry.pop("default", None)  # the keys have their own defaults
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **generated,
        "title": "vlcheck config",
        "description": "A fine-tuning run, as vlcheck audits it.",
    }


def _places(sources: Mapping[str, Location]) -> Callable[[tuple[str | int, ...]], Location]:
    def where(path: tuple[str | int, ...]) -> Location:
        for length in range(len(path), -1, -1):
            above = ".".join(map(str, path[:length]))
            found = sources.get(above)
            if found is not None:
                return replace(found, key=".".join(map(str, path))) if found.key == above else found
        return Location("<python>", key=".".join(map(str, path)))

    return where
