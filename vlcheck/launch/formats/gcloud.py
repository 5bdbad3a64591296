"""`gcloud run jobs create`, `deploy` or `update` in a shell script."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from vlcheck.config.reading.quoting import quoted
from vlcheck.config.reading.shell_words import Word, read_commands
from vlcheck.launch.job import Job, Mount, Placed, Storage
from vlcheck.launch.quantities import cpus, seconds, size, switch, text, whole
from vlcheck.spec import ConfigError, Location, Problem

NAME = "gcloud command"
RECOGNISED_BY = "a shell script with `gcloud run jobs create`, `deploy` or `update`"
T = TypeVar("T")

_JOBS = re.compile(r"gcloud (?:(?:beta|alpha) )?run jobs (?:create|deploy|update)\b")
_SWITCHES = frozenset((
    "async", "wait", "execute-now", "quiet", "gpu-zonal-redundancy", "no-gpu-zonal-redundancy", "clear-env-vars",
    "clear-secrets", "clear-volumes", "clear-volume-mounts", "clear-labels",
))  # fmt: skip
"""Flags without a value."""


def recognises(script: str) -> bool:
    """Whether a shell script makes a Cloud Run job."""
    return any(_JOBS.match(_joined(words)) for words in read_commands(script))


def read(script: str, file: str) -> Job:
    """The first job that a script creates; the first that it updates where it creates none.

    Raises:
        ConfigError: for a value that cannot be what it must be.
    """
    making = [words for words in read_commands(script) if _JOBS.match(_joined(words))]
    words = min(making, key=_updates)
    flags = dict(_flags(words))
    where = Location(file, words[0].line, words[0].column)

    def told(name: str, convert: Callable[[Any], T]) -> Placed[T] | None:
        word = flags.get(name)
        if word is None or not word.sure:  # only the shell knows it
            return None
        place = Location(file, word.line, word.column, f"--{name}")
        try:
            return Placed(convert(word.text), place)
        except ValueError as wrong:
            raise ConfigError(Problem(place, f"--{name} is {quoted(word.text)}; {wrong}")) from None

    env = {name: Placed(value.text, _place(value, file)) for name, value in _pairs(words, _ENV) if value.sure}
    unsure = sorted(f"--{name}" for name, word in flags.items() if not word.sure)
    redundant = "gpu-zonal-redundancy" in flags
    created = not _updates(words)
    return Job(
        platform="cloud-run",
        where=where,
        whole=created,
        gpu=told("gpu-type", text),
        gpu_count=told("gpu", whole),
        cpu=told("cpu", cpus),
        memory_bytes=told("memory", size),
        timeout_seconds=told("task-timeout", seconds),
        retries=told("max-retries", whole),
        region=told("region", text),
        image=told("image", text),
        workdir=told("workdir", text),
        command=(*_listed(words, "command", file), *_listed(words, "args", file)),
        env=env,
        secrets=tuple(name for name, _ in _pairs(words, _SECRETS) if not name.startswith("/")),
        mounts=tuple(_mounts(words, file)),
        mounts_told=created,
        tasks=told("tasks", whole),
        parallelism=told("parallelism", whole),
        remarks=tuple(
            [f"{', '.join(unsure)}: known only when the script runs"] * bool(unsure)
            + ["GPUs are paid for with zonal redundancy"] * redundant
        ),
    )


_ENV = ("set-env-vars", "update-env-vars")
_SECRETS = ("set-secrets", "update-secrets")


def context_of(script: str) -> str | None:
    """The folder that the job's image is built from, where the script builds it; relative to the script's own."""
    for words in read_commands(script):
        flags, texts = dict(_flags(words)), [word.text for word in words]
        if _JOBS.match(_joined(words)) and "source" in flags and flags["source"].sure:
            return flags["source"].text
        if texts[:3] == ["gcloud", "builds", "submit"] or texts[:2] == ["docker", "build"]:
            taken = {word.text for word in flags.values()}
            bare = [word for word in words[2:] if not word.text.startswith("-") and word.text not in taken]
            last = bare[-1].text if bare and bare[-1].text != "submit" else "."
            return last if "$" not in last and "://" not in last else None
    return None


def _updates(words: Sequence[Word]) -> bool:
    return "update" in _joined(words).split()


def _joined(words: Sequence[Word]) -> str:
    return " ".join(word.text for word in words[:6])


def _place(word: Word, file: str) -> Location:
    return Location(file, word.line, word.column)


def _flags(words: Sequence[Word]) -> Iterator[tuple[str, Word]]:
    """Flags by name, each with its value; some are repeated."""
    rest = iter(words)
    for word in rest:
        name, equal, value = word.text.removeprefix("--").partition("=")
        if not word.text.startswith("--"):
            continue
        if equal or name in _SWITCHES:
            yield name, Word(value, word.line, word.column, word.sure)
        elif (following := next(rest, None)) is not None:
            yield name, following


def _split(value: str) -> list[str]:
    """A list as gcloud takes it: commas, or `^@^` before it for another sign."""
    changed = re.match(r"\^(.{1,4})\^", value)
    return value[changed.end() :].split(changed[1]) if changed else value.split(",")


def _pairs(words: Sequence[Word], names: Sequence[str]) -> Iterator[tuple[str, Word]]:
    """Names and values of flags that hold several and may be repeated."""
    for flag, word in _flags(words):
        for pair in _split(word.text) if flag in names else ():
            key, _, value = pair.partition("=")
            yield key.strip(), Word(value, word.line, word.column, "$" not in value)


def _listed(words: Sequence[Word], name: str, file: str) -> Iterator[Placed[str]]:
    for flag, word in _flags(words):
        for part in _split(word.text) if flag == name else ():
            yield Placed(part, Location(file, word.line, word.column, f"--{name}"))


def _mounts(words: Sequence[Word], file: str) -> Iterator[Mount]:
    volumes: dict[str, dict[str, str]] = {}
    for name, value in _flags(words):
        held = dict(part.partition("=")[::2] for part in _split(value.text))
        if name == "add-volume":
            volumes[held.get("name", "")] = held
        elif name == "add-volume-mount" and "mount-path" in held:
            volume = volumes.get(held.get("volume", ""), {})
            yield Mount(held["mount-path"], _storage(volume.get("type", "")), _place(value, file), _read_only(volume))


def _read_only(volume: dict[str, str]) -> bool:
    try:
        return switch(volume.get("readonly", "false"))
    except ValueError:
        return False


def _storage(kind: str) -> Storage:
    kinds: dict[str, Storage] = {"cloud-storage": "bucket", "nfs": "volume", "in-memory": "memory", "secret": "scratch"}
    return kinds.get(kind, "unknown")
