"""Read a job file of whatever platform: it is told by its content, never by its name alone."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlcheck.config.foreign.kinds import is_shell
from vlcheck.config.foreign.not_configs import read_head
from vlcheck.config.reading.mappings import plain_values
from vlcheck.config.reading.quoting import named
from vlcheck.config.reading.text import read_text
from vlcheck.config.reading.yaml_lines import parse_yaml
from vlcheck.finding import Json
from vlcheck.launch.formats import aws_batch, cloud_run, gcloud, kubernetes, modal, runpod, sagemaker, skypilot
from vlcheck.launch.image import read_requirements, with_dockerfile
from vlcheck.launch.job import Job
from vlcheck.launch.shell import unfolded
from vlcheck.launch.tree import Tree
from vlcheck.spec import ConfigError, Location, Problem

DOCUMENTS = (cloud_run, kubernetes, skypilot, aws_batch, sagemaker, runpod)
"""Formats that are YAML or JSON, in the order in which they are asked."""


def read_job(path: str | os.PathLike[str]) -> Job:
    """Read a job file.

    Raises:
        ConfigError: if it is no job that is known, or a value in it cannot be what it must be.
    """
    file = os.fsdecode(path)
    head = read_head(path)
    if modal.recognises(head):
        return unfolded(modal.read(read_text(file), file))
    if is_shell(path) or re.search(r"^gcloud ", head, re.MULTILINE):
        return unfolded(_script(file))
    documents = [parse_yaml(text, file) for text in _documents(read_text(path))]
    known = next((each for each in documents if any(form.recognises(each[0]) for form in DOCUMENTS)), documents[0])
    return _job(*known)


def _documents(text: str) -> list[str]:
    """The documents of a YAML file, each on its own lines; a claim of a volume often stands before its job."""
    parts: list[str] = [""]
    for number, line in enumerate(text.splitlines(keepends=True)):
        if re.match(r"---(?:\s|$)", line):
            parts.append("\n" * number)
        parts[-1] += re.sub(r"^---", "   ", line)
    return [part for part in parts if re.search(r"^\s*[^\s#]", part, re.MULTILINE)] or [text]


def job_of_mapping(document: Mapping[str, Any], name: str = "<python>") -> Job:
    """The job of a mapping that holds what its file would.

    Raises:
        ConfigError: as `read_job` does.
    """
    plain, sources = plain_values(document, name)
    return _job(plain, sources)


def _script(file: str) -> Job:
    script = read_text(file)
    if not gcloud.recognises(script):
        raise ConfigError(Problem(Location(file), f"is a shell script that makes no job; allowed: {_allowed()}"))
    job = gcloud.read(script, file)
    context = gcloud.context_of(script)
    dockerfile = None if context is None else Path(file).parent / context / "Dockerfile"
    return job if dockerfile is None or not dockerfile.is_file() else with_dockerfile(job, dockerfile)


def with_requirements(job: Job, path: str | os.PathLike[str]) -> Job:
    """A job with what a requirements file, or the Dockerfile of its image, says.

    Raises:
        ConfigError: if the file cannot be read, or names no package.
    """
    file = Path(os.fsdecode(path))
    if "dockerfile" in file.name.lower():
        return with_dockerfile(job, file)
    found = read_requirements(file)
    if not found:
        allowed = "allowed: lines of packages, as `pip install -r` takes them, or a Dockerfile"
        raise ConfigError(Problem(Location(str(file)), f"names no package; {allowed}"))
    return replace(job, requirements=(*job.requirements, *found))


def _job(document: Mapping[str, Json], sources: Mapping[str, Location]) -> Job:
    for form in DOCUMENTS:
        if form.recognises(document):
            job: Job = form.read(Tree(dict(document), sources))
            return unfolded(job)
    seen = ", ".join(named([key], 40) for key in list(document)[:8]) or "none"
    raise ConfigError(Problem(sources[""], f"unknown job, top-level keys: {seen}; allowed: {_allowed()}"))


def _allowed() -> str:
    forms = (*DOCUMENTS, gcloud, modal)
    return "; ".join(f"{form.NAME}: {form.RECOGNISED_BY}" for form in forms)
