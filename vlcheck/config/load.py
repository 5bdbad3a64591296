"""From a config, in whatever dialect, to one `RunSpec`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vlcheck.config import native
from vlcheck.config.defaults import settled
from vlcheck.config.foreign.kinds import is_folder, is_python, is_shell
from vlcheck.config.foreign.not_configs import refuse_keys, refuse_text
from vlcheck.config.hardware import on_hardware
from vlcheck.config.project import ProjectSettings, on_project
from vlcheck.config.reading.ignores import read_ignores
from vlcheck.config.reading.mappings import plain_values
from vlcheck.config.reading.quoting import named
from vlcheck.config.reading.tree import MERGE
from vlcheck.config.reading.yaml_lines import read_yaml
from vlcheck.config.typed import fill, overruled, read_typed
from vlcheck.finding import Json, collector
from vlcheck.spec import ConfigError, Location, Problem, RunSpec

__all__ = ["load", "load_mapping"]


@collector("reading the config")
def load(
    path: str | os.PathLike[str],
    *,
    gpu: str | None = None,
    memory_gib: float | None = None,
    gpus: int | None = None,
    framework_version: str | None = None,
    settings: Sequence[str] = (),
    project: ProjectSettings | None = None,
    prepare: Callable[[dict[str, Json]], dict[str, Json]] = lambda document: document,
) -> RunSpec:
    """Read a config of vlcheck or of another tool, a script or notebook that trains, or a finished adapter's folder.

    A Python script is read by its syntax tree; no line of it runs.

    Args:
        gpu, memory_gib, gpus: hardware that outranks the file's; see `on_hardware`.
        framework_version: of the tool whose file it is; by default the installed one, else the newest that is known.
        settings: fields that outrank the file's, as `lora.r=16`; see `read_typed`.
        project: whose card a run has that names none.
        prepare: changes the document of a YAML or JSON file before it is validated.

    Raises:
        ConfigError: if it is no usable config; holds every problem found, each at its line.
    """
    folder = Path(os.fsdecode(path)).parent
    typed = read_typed(settings)
    if is_shell(path):
        from vlcheck.config.foreign.commands import completed
        from vlcheck.config.foreign.commands import read_script as read_command

        command = read_command(path)
        dialect = next(dialect for dialect in _dialects() if command.dialect == dialect.NAME)
        spec = completed(dialect.to_spec(command.document, command.sources, folder, stated=framework_version), command)
    elif is_python(path):
        from vlcheck.config.foreign.scripts.script import read_script

        spec = read_script(path, stated=framework_version, typed=typed)
    elif is_folder(path):
        from vlcheck.config.foreign import huggingface

        spec = huggingface.read_folder(path, stated=framework_version)
    else:
        refuse_text(path)
        document, sources = read_yaml(path)
        spec = _to_spec(prepare(document), sources, folder, framework_version, typed)
    ignores = [
        ignore for file in sorted({where.file for where in spec.sources.values()}) for ignore in read_ignores(file)
    ]
    spec = replace(settled(overruled(spec, typed)), ignores=tuple(ignores))
    spec = on_hardware(spec, gpu=gpu, memory_gib=memory_gib, gpus=gpus)
    return spec if project is None else on_project(spec, project)


def load_mapping(document: Mapping[str, Any], name: str = "<python>") -> RunSpec:
    """Check a config that is a Python mapping; paths in it are relative to the working directory.

    Args:
        document: sections, as a YAML file would hold them.
        name: stands for the file in messages.
    """
    plain, sources = plain_values(document, name)
    return settled(_to_spec(plain, sources, Path()))


def _dialects() -> Iterator[Any]:
    """Other tools' first: vlcheck's own takes any file that has something like one of its sections.

    Each is imported when it is asked for: they take a tenth of a second together.
    """
    from vlcheck.config.foreign import axolotl

    yield axolotl
    from vlcheck.config.foreign import llamafactory

    yield llamafactory
    from vlcheck.config.foreign import trl

    yield trl
    from vlcheck.config.foreign import ms_swift

    yield ms_swift
    from vlcheck.config.foreign import huggingface

    yield huggingface
    yield native


def _to_spec(
    document: Mapping[str, Json],
    sources: Mapping[str, Location],
    folder: Path,
    stated: str | None = None,
    typed: Mapping[str, Json] = MappingProxyType({}),
) -> RunSpec:
    refuse_keys(document, sources[""])
    for dialect in (native,) if native.owns(document) else _dialects():
        if dialect.recognises(document):
            if dialect is native and MERGE in sources:
                message = "merge key << is not part of YAML 1.2; write the keys out"
                raise ConfigError(Problem(sources[MERGE], message))
            if dialect is native:  # before it is checked: an option may fill in what the file lacks
                document, sources = dict(document), dict(sources)
                fill(document, sources, typed)
            spec: RunSpec = dialect.to_spec(document, sources, folder, stated=stated)
            return spec
    seen = ", ".join(named([key], 40) for key in list(document)[:8]) or "none"
    known = "; ".join(f"{dialect.NAME}: {dialect.RECOGNISED_BY}" for dialect in _dialects())
    raise ConfigError(Problem(sources[""], f"unknown dialect, top-level keys: {seen}; known dialects: {known}"))
