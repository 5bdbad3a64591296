"""From a config, in whatever dialect, to one `RunSpec`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vlcheck.config import native
from vlcheck.config.defaults import settled
from vlcheck.config.foreign import axolotl, huggingface, llamafactory, ms_swift, trl
from vlcheck.config.foreign.commands import completed, is_script, read_script
from vlcheck.config.foreign.not_configs import refuse_keys, refuse_text
from vlcheck.config.hardware import on_hardware
from vlcheck.config.reading.mappings import plain_values
from vlcheck.config.reading.quoting import named
from vlcheck.config.reading.yaml_lines import read_yaml
from vlcheck.finding import Json, collector
from vlcheck.spec import ConfigError, Location, Problem, RunSpec

DIALECTS = (axolotl, llamafactory, trl, ms_swift, huggingface, native)
"""Other tools' first: vlcheck's own takes any file that has something like one of its sections."""

__all__ = ["DIALECTS", "load", "load_mapping"]


@collector("reading the config")
def load(
    path: str | os.PathLike[str],
    *,
    gpu: str | None = None,
    memory_gib: float | None = None,
    gpus: int | None = None,
    framework_version: str | None = None,
    prepare: Callable[[dict[str, Json]], dict[str, Json]] = lambda document: document,
) -> RunSpec:
    """Read a config file of vlcheck or of another tool, a shell script that trains, or a finished adapter's folder.

    Args:
        gpu, memory_gib, gpus: hardware that outranks the file's; see `on_hardware`.
        framework_version: of the tool whose file it is; by default the installed one, else the newest that is known.
        prepare: changes the document of a YAML or JSON file before it is validated.

    Raises:
        ConfigError: if it is no usable config; holds every problem found, each at its line.
    """
    folder = Path(os.fsdecode(path)).parent
    if is_script(path):
        command = read_script(path)
        dialect = next(dialect for dialect in DIALECTS if command.dialect == dialect.NAME)
        read = dialect.to_spec(command.document, command.sources, folder, stated=framework_version)
        spec = settled(completed(read, command))
    elif huggingface.is_folder(path):
        spec = settled(huggingface.read_folder(path, stated=framework_version))
    else:
        refuse_text(path)
        document, sources = read_yaml(path)
        spec = _to_spec(prepare(document), sources, folder, framework_version)
    return on_hardware(spec, gpu=gpu, memory_gib=memory_gib, gpus=gpus)


def load_mapping(document: Mapping[str, Any], name: str = "<python>") -> RunSpec:
    """Check a config that is a Python mapping; paths in it are relative to the working directory.

    Args:
        document: sections, as a YAML file would hold them.
        name: stands for the file in messages.
    """
    plain, sources = plain_values(document, name)
    return _to_spec(plain, sources, Path())


def _to_spec(
    document: Mapping[str, Json], sources: Mapping[str, Location], folder: Path, stated: str | None = None
) -> RunSpec:
    refuse_keys(document, sources[""])
    for dialect in DIALECTS:
        if dialect.recognises(document):
            spec: RunSpec = dialect.to_spec(document, sources, folder, stated=stated)
            return settled(spec)
    seen = ", ".join(named([key], 40) for key in list(document)[:8]) or "none"
    known = "; ".join(f"{dialect.NAME}: {dialect.RECOGNISED_BY}" for dialect in DIALECTS)
    raise ConfigError(Problem(sources[""], f"unknown dialect, top-level keys: {seen}; known dialects: {known}"))
