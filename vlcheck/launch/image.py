"""What an image is made of: its Dockerfile, the requirements that it installs, the toolkit in its name."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from vlcheck.config.reading.text import read_text
from vlcheck.launch.job import Job, Placed, Requirement
from vlcheck.spec import ConfigError, Location

_CUDA = re.compile(r"(?:cuda|cu)[-_:]?(\d{2})\.?(\d)(?!\d{2})", re.IGNORECASE)
_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(.*)")
_INSTALL = re.compile(r"\b(?:uv\s+)?(?:pip3?|uv)\s+(?:pip\s+)?install\b(.*)", re.DOTALL)
_TAKES_VALUE = frozenset((
    "-r", "--requirement", "-c", "--constraint", "-i", "--index-url", "--extra-index-url", "-f", "--find-links",
    "--index-strategy", "-t", "--target", "--python", "-p", "--prefix",
))  # fmt: skip


def cuda_of(image: str) -> tuple[int, int] | None:
    """The CUDA toolkit that an image's name tells; None where it tells none."""
    found = _CUDA.search(image)
    return (int(found[1]), int(found[2])) if found else None


@dataclass(frozen=True)
class Installed:
    """What one `pip install` brings."""

    requirements: tuple[Requirement, ...] = ()
    files: tuple[Placed[str], ...] = ()
    """Requirements files that it reads."""


def installed_by(command: str, where: Location) -> Installed:
    """What the `pip install` commands in a text bring."""
    requirements: list[Requirement] = []
    files = []
    for part in re.split(r"&&|;|\n|\|\|", command.replace("\\\n", " ")):
        found = _INSTALL.search(part)
        given = _words(found[1]) if found else []
        constrained = any(re.match(r"-c$|--constraint", word) for word in given)
        words = iter(given)
        for word in words:
            flag, equal, value = word.partition("=") if word.startswith("--") else (word, "", "")
            if flag in _TAKES_VALUE:
                value = value if equal else next(words, "")
                if flag in ("-r", "--requirement"):
                    files.append(Placed(value, where))
            elif not word.startswith("-") and (requirement := requirement_of(word, where)) is not None:
                requirements.append(replace(requirement, constrained=constrained))
    return Installed(tuple(requirements), tuple(files))


def requirement_of(text: str, where: Location) -> Requirement | None:
    """A line of a requirements file, or a word of `pip install`; None for what names no package."""
    text = text.split(" #", maxsplit=1)[0].strip()
    found = _NAME.fullmatch(text.split(";", maxsplit=1)[0].strip())
    if not found or text.startswith(("#", "-", ".", "/")) or "://" in text.split("@", maxsplit=1)[0]:
        return None
    return Requirement(re.sub(r"[-_.]+", "-", found[1]).lower(), text.split(";", maxsplit=1)[0].strip(), where)


def read_requirements(path: Path) -> tuple[Requirement, ...]:
    """The packages of a requirements file.

    Raises:
        ConfigError: if it cannot be read.
    """
    lines = read_text(path).splitlines()
    found = (requirement_of(line, Location(str(path), number)) for number, line in enumerate(lines, 1))
    return tuple(requirement for requirement in found if requirement is not None)


def with_dockerfile(job: Job, path: Path) -> Job:
    """A job with what the Dockerfile of its image says: base image, working folder, variables, packages, entry point.

    Files that it copies are read beside it where they are packages or the script that it starts.

    Raises:
        ConfigError: if the Dockerfile cannot be read.
    """
    from vlcheck.launch.scripts import with_script

    file, text = str(path), read_text(path)
    base: Placed[str] | None = None
    workdir: Placed[str] | None = None
    command: dict[str, tuple[Placed[str], ...]] = {}
    env: dict[str, Placed[str]] = {}
    requirements: list[Requirement] = []
    remarks = [f"{path.name} was read as that of the job's image"]
    for number, name, rest in _instructions(text):
        where = Location(file, number)
        if name == "FROM":  # the last stage is the image
            base, workdir, command = Placed(rest.split()[0] if rest else "", where), None, {}
        elif name == "WORKDIR":
            workdir = Placed(posixpath.join(workdir.value if workdir else "/", rest), where)
        elif name in ("ENTRYPOINT", "CMD"):
            command[name] = tuple(Placed(word, where) for word in _exec_form(rest))
        elif name == "ENV":
            key, equal, value = rest.partition("=")
            env |= {key.strip(): Placed(value.strip().strip("\"'"), where)} if equal else {}
        elif name == "RUN":
            brought = installed_by(rest, where)
            requirements += brought.requirements
            for named in brought.files:
                try:
                    requirements += read_requirements(path.parent / Path(named.value).name)
                except ConfigError:
                    remarks.append(f"{named.value}, which {path.name} installs from, is not beside it")
    entry = command.get("ENTRYPOINT", ())
    words = job.command
    if not words or words[0].value.startswith("-"):  # arguments alone: the entry point is the image's
        words = (*entry, *(words or command.get("CMD", ())))
    job = replace(
        job, base=job.base or base, workdir=job.workdir or workdir, command=words, env={**env, **job.env},
        requirements=(*job.requirements, *requirements), remarks=(*job.remarks, *remarks),
    )  # fmt: skip
    script = next((word for word in entry if word.value.endswith(".py")), None)
    beside = path.parent / posixpath.basename(script.value) if script else None
    return with_script(job, beside) if beside is not None and beside.is_file() else job


def _instructions(text: str) -> Iterator[tuple[int, str, str]]:
    """Instructions of a Dockerfile with the line that each begins on."""
    number, held, begun = 0, "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if not held and (not line.strip() or line.lstrip().startswith("#")):
            continue
        begun = begun if held else number
        held += line.rstrip().removesuffix("\\") + " "
        if not line.rstrip().endswith("\\"):
            name, _, rest = held.strip().partition(" ")
            yield begun, name.upper(), rest.strip()
            held = ""


def _exec_form(text: str) -> list[str]:
    try:
        words = json.loads(text) if text.startswith("[") else _words(text)
    except (ValueError, RecursionError):
        return []
    return [word for word in words if isinstance(word, str)]


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:  # an open quote
        return text.split()
