"""Find a model's config.json: local folder, Hugging Face cache, Hub, embedded catalogue."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlcheck.model import catalogue
from vlcheck.model.hub import hub_answers
from vlcheck.spec import ConfigError, Location, ModelRef, Problem, RunSpec

LARGEST_CONFIG_BYTES = 4 * 2**20


@dataclass(frozen=True)
class ModelConfig:
    """A model's config and where it was found."""

    values: Mapping[str, Any]
    origin: str
    """One phrase for the report: "catalogue entry google/gemma-4-31B-it"."""
    folder: Path | None = None
    """Local folder of the config, where weights may lie beside it."""


def find_config(spec: RunSpec, *, offline: bool = False) -> ModelConfig:
    """The config of `spec.model`, from the first place that has it.

    Code that a config names (`auto_map`) is never run: such a config is refused.

    Raises:
        ConfigError: if no place has it, or the file found is not a usable config.
    """
    model = spec.model
    unknown_here = offline or (model.weights == "random" and _known(model))
    found = _local(model) or _cached(model) or (None if unknown_here else _downloaded(model)) or _known(model)
    where = spec.where("model.id")
    if found is None:
        raise ConfigError(Problem(where, _nowhere(model, offline)))
    if not isinstance(found.values.get("model_type"), str):
        raise ConfigError(Problem(where, f"{found.origin}: config.json has no model_type"))
    if "auto_map" in found.values:
        raise ConfigError(
            Problem(where, f"{found.origin}: config.json needs remote code (auto_map), which vlcheck never runs")
        )
    return found


def _nowhere(model: ModelRef, offline: bool) -> str:
    names = [entry.hub_id for entry in catalogue.entries()]
    alike = [name for name in names if _numbers(name) == _numbers(model.id)]
    near = difflib.get_close_matches(model.id, alike, n=1, cutoff=0.6)
    hub = "the Hub was not asked (offline)" if offline else "the Hub does not have it or was not reached"
    hint = f"; did you mean {near[0]}?" if near else f"; it has {', '.join(names)}"
    return (
        f"model.id {model.id!r} is no local folder with a config.json, not in the Hugging Face cache, {hub}, and not "
        f"in the catalogue{hint}"
    )


def _numbers(name: str) -> set[str]:
    """The words of a model's name that hold a digit: another version or size is another model, no slip of the pen."""
    words = re.split(r"[^a-z0-9.]+", name.rpartition("/")[2].lower())
    return {word for word in words if any(map(str.isdigit, word))}


def _local(model: ModelRef) -> ModelConfig | None:
    folder = Path(model.id).expanduser()
    file = folder / "config.json"
    return ModelConfig(_read(file, model), f"local folder {model.id}", folder) if file.is_file() else None


def _cached(model: ModelRef) -> ModelConfig | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        file = try_to_load_from_cache(model.id, "config.json", revision=model.revision)
    except HFValidationError:
        return None
    if not isinstance(file, str):
        return None
    return ModelConfig(_read(Path(file), model), f"Hugging Face cache of {model.id}", Path(file).parent)


def _downloaded(model: ModelRef) -> ModelConfig | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if not hub_answers():
        return None
    try:
        file = hf_hub_download(model.id, "config.json", revision=model.revision, etag_timeout=5)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError):
        return None
    return ModelConfig(_read(Path(file), model), f"Hugging Face Hub, {model.id}", Path(file).parent)


def _known(model: ModelRef) -> ModelConfig | None:
    entry = catalogue.lookup(model.id)
    if entry is None:
        return None
    same = entry.hub_id.lower() == model.id.lower()
    origin = f"catalogue entry {entry.hub_id}" + ("" if same else f", taken for {model.id} by its name")
    return ModelConfig(entry.config, origin)


def _read(file: Path, model: ModelRef) -> Mapping[str, Any]:
    try:
        if file.stat().st_size > LARGEST_CONFIG_BYTES:
            raise ValueError(f"larger than {LARGEST_CONFIG_BYTES} bytes")
        values = json.loads(file.read_text("utf-8"))
        if not isinstance(values, dict):
            raise ValueError("not a JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(Problem(Location(str(file)), f"config of {model.id!r} is unreadable: {error}")) from error
    return values
