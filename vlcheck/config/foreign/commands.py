"""Training commands of a shell script: the launcher, the program, and its flags as the keys of the program's config."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from vlcheck.config.reading.quoting import quoted
from vlcheck.config.reading.scalars import plain_value
from vlcheck.config.reading.shell_words import Word, read_commands
from vlcheck.config.reading.text import read_text
from vlcheck.config.reading.yaml_lines import read_yaml
from vlcheck.finding import Json
from vlcheck.spec import Concern, ConfigError, Location, Problem, RunSpec, Unread


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program whose flags are the keys of a config."""

    dialect: str
    """`NAME` of the module that reads its keys."""
    called: re.Pattern[str]
    """What the words before its flags end with."""
    model: str = "model_name_or_path"
    """The flag that names the model."""
    config: str = ""
    """The flag that names a config file, which the others outrank."""
    file: bool = False
    """It takes the config file itself, by name."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of the environment that it reads, and the flags that they stand for."""
    sets: tuple[tuple[str, Json], ...] = ()
    """Arguments that the script sets whatever its flags say."""


PROGRAMS = (
    Program(
        dialect="trl",
        called=re.compile(r"(?:^|[/ ])sft_vlm\w*\.py$"),
        config="config",
        sets=(("max_length", None),),  # examples/scripts/sft_vlm_gemma3.py of TRL's repository
    ),
    Program(
        dialect="trl", called=re.compile(r"(?:^|[/ ])(?:sft|vsft|vsft_llava)\.py$|(?:^|[/ ])trl sft$"), config="config"
    ),
    Program(
        dialect="ms-swift",
        called=re.compile(r"(?:^|[/ ])swift sft$|(?:^|[/ ])swift/cli/sft\.py$"),
        model="model",
        environment={
            "MAX_PIXELS": "max_pixels",
            "IMAGE_MAX_TOKEN_NUM": "image_max_token_num",
            "NPROC_PER_NODE": "num_processes",
        },
    ),
    Program(dialect="llamafactory", called=re.compile(r"(?:^|[/ ])llamafactory-cli train$"), file=True),
    Program(dialect="axolotl", called=re.compile(r"(?:^|[/ ])axolotl(?:\.cli\.| )train$"), file=True),
)
"""In the order in which they are asked. To read another program's commands, add a row."""

_LAUNCHERS = {"nproc_per_node": "num_processes", "num_processes": "num_processes", "num_gpus": "num_processes"}
"""Flags of torchrun, accelerate and DeepSpeed's launcher that say how many processes there are."""
_HARMLESS = frozenset(("output_dir", "run_name", "logging_dir", "hub_model_id", "report_to"))
"""Keys that may be known only when the script runs, and change nothing that is judged."""
_HANDED_ON = re.compile(r"\$(?:[@*]|\{[@*][^}]*\})$")
_TRAINS = re.compile(r"\.py$|^(?:trl|swift|axolotl|llamafactory-cli)$|^-m$")


@dataclass(frozen=True)
class Command:
    """What a script starts: flags as a document, each with its place."""

    dialect: str
    document: dict[str, Json]
    sources: dict[str, Location]
    unsure: dict[str, str]
    """Keys whose values only running the script would tell, with what stands there."""
    assumed: tuple[str, ...]


def read_script(path: str | os.PathLike[str]) -> Command:
    """Read the first training command of a script.

    Raises:
        ConfigError: if it holds none, or one of a program whose flags are its own.
    """
    file = os.fsdecode(path)
    commands = [tuple(_until_redirected(words)) for words in read_commands(read_text(path))]
    handed_on = any(_HANDED_ON.match(word.text) for words in commands for word in words)
    commands = [tuple(word for word in words if not _HANDED_ON.match(word.text)) for words in commands]
    found = [(words, split) for words in commands if (split := _program(words)) is not None]
    if not found:
        others = [words for words in commands if any(_TRAINS.search(word.text) for word in words[:12])]
        raise ConfigError(_refusal(file, others))
    words, (program, at) = found[0]
    if program.file and not (words[at + 1 :] and words[at + 1].text.startswith("-")):
        name = next((word.text for word in words[at + 1 :] if not word.text.startswith("-")), "a config")
        where = Location(file, words[at].line, words[at].column)
        raise ConfigError(Problem(where, f"the run's config is {quoted(name)}; name that file"))
    command = _read(program, words, at, file)
    _environment(command, program, read_text(path), words[at].line)
    if program.model in command.unsure:
        message = f"{program.model} is {quoted(command.unsure[program.model])}, which the script does not assign"
        raise ConfigError(Problem(command.sources[program.model], message))
    if handed_on:
        also = f'{file} hands on what it is given ("$@"), and was judged as it stands'
        command = replace(command, assumed=(*command.assumed, also))
    if len(found) > 1:
        others_at = ", ".join(str(words[0].line) for words, _ in found[1:])
        also = f"{file} starts {len(found)} trainings, and the first was judged; the others are on line {others_at}"
        return replace(command, assumed=(*command.assumed, also))
    return command


def completed(spec: RunSpec, command: Command) -> RunSpec:
    """The run of a command, with what its script leaves open."""
    assert spec.origin is not None  # every program's keys are another tool's
    unread = tuple(
        Unread(command.sources[key], f"{key}: {quoted(text)} is known only when the script runs", get_args(Concern))
        for key, text in command.unsure.items()
        if key not in _HARMLESS
    )
    origin = replace(
        spec.origin, unread=(*spec.origin.unread, *unread), assumed=(*spec.origin.assumed, *command.assumed)
    )
    return replace(spec, origin=origin)


def _refusal(file: str, others: Sequence[tuple[Word, ...]]) -> Problem:
    allowed = "allowed: `trl sft`, or TRL's own sft.py and sft_vlm*.py; `swift sft`; `llamafactory-cli train`"
    if not others:
        job = "; `vlcheck preflight` reads one that makes a job (`gcloud run jobs`)"
        return Problem(Location(file), f"is a shell script without a training command; {allowed}{job}")
    word = next(word for word in others[0] if _TRAINS.search(word.text))
    return Problem(
        Location(file, word.line, word.column),
        f"starts {quoted(word.text)[1:-1]}, whose flags are that program's own and are not read yet; {allowed}",
    )


def _until_redirected(words: Sequence[Word]) -> Iterator[Word]:
    for word in words:
        if re.match(r"\d?[<>]", word.text):
            return
        yield word


def _program(words: Sequence[Word]) -> tuple[Program, int] | None:
    """The program that a command starts, and the index of the last word of its name."""
    for index in range(min(len(words), 60)):
        name = " ".join(word.text for word in words[max(0, index - 1) : index + 1])
        for program in PROGRAMS:
            if program.called.search(name):
                return program, index
    return None


def _read(program: Program, words: Sequence[Word], at: int, file: str) -> Command:
    command = Command(program.dialect, {}, {"": _place(words[at], file)}, {}, ())
    for key, values, place in _flags(words[:at]):
        if key in _LAUNCHERS:
            _set(command, _LAUNCHERS[key], values, _place(place, file))
        elif key == "config_file":
            _set(command, "accelerate_config", values, _place(place, file))
    for key, values, place in _flags(words[at + 1 :]):
        if key == program.config and values and values[0].sure:
            document, sources = read_yaml(Path(file).parent / values[0].text)
            held, places = dict(command.document), dict(command.sources)
            command.document.update({**document, **held})
            command.sources.update({**sources, **places})
        else:
            _set(command, key, values, _place(place, file))
    assumed = []
    for key, value in program.sets:
        command.document[key], command.sources[key] = value, _place(words[at], file)
        assumed.append(f"{words[at].text} was read as TRL's own script, which sets {key} to {quoted(value)}")
    return replace(command, assumed=tuple(assumed))


def _environment(command: Command, program: Program, text: str, before: int) -> None:
    """Take the variables that the script sets for the program; the last one before it counts."""
    for number, line in enumerate(text.splitlines()[:before], 1):
        for found in re.finditer(r"(?:^|\s)(\w+)=([\w.]+)(?=\s|$)", line.partition("#")[0]):
            key = program.environment.get(found[1])
            if key is not None and command.sources.get(key, Location(file="")).line < number:
                command.document[key] = _plain(found[2])
                command.sources[key] = Location(command.sources[""].file, number, found.start(1) + 1, key)


def _flags(words: Sequence[Word]) -> Iterator[tuple[str, list[Word], Word]]:
    """Each flag with the words that follow it."""
    flag: Word | None = None
    values: list[Word] = []
    for word in words:
        if re.match(r"--?[A-Za-z]", word.text):
            if flag is not None:
                yield _key(flag), values, flag
            name, equals, value = word.text.partition("=")
            flag, values = replace(word, text=name), [replace(word, text=value)] if equals else []
        elif flag is not None:
            values.append(word)
    if flag is not None:
        yield _key(flag), values, flag


def _key(flag: Word) -> str:
    return flag.text.lstrip("-").replace("-", "_")


def _set(command: Command, key: str, values: Sequence[Word], where: Location) -> None:
    where = replace(where, key=key)
    if not all(value.sure for value in values):
        command.unsure[key] = " ".join(value.text for value in values)
        command.sources[key] = where
        return
    plain = [_plain(value.text) for value in values]
    command.document[key] = True if not plain else plain[0] if len(plain) == 1 else plain
    command.sources[key] = where
    for index, value in enumerate(values if len(values) > 1 else ()):
        command.sources[f"{key}.{index}"] = Location(where.file, value.line, value.column, f"{key}.{index}")


def _plain(text: str) -> Any:
    """A flag's value, as argparse and `TrainingArguments` take it."""
    try:
        if text.startswith("{"):
            return json.loads(text)
        return plain_value(text) if text else text
    except (ValueError, RecursionError):
        return text


def _place(word: Word, file: str) -> Location:
    return Location(file, word.line, word.column)
