"""The starter for a user's own model and data: the bundled one, its lines filled in."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from vlcheck.config.foreign.not_configs import read_head
from vlcheck.config.reading.quoting import quoted
from vlcheck.config.validation.local_paths import path_problems
from vlcheck.spec import ConfigError, Location, Problem

_IMAGES = ("image", "images", "file_name", "image_path", "img")
_ANSWERS = ("label", "answer", "caption", "text", "output", "response")
_CHATS = (("messages",), ("conversations",), ("prompt", "completion"))
_SPLITS = ("train.jsonl", "metadata.jsonl")
_LINE = re.compile(r"^  (?:# )?(\w+): .*?(  #.*)?$")


def starter_for(text: str, *, model: str | None, data: str | None, framework: str | None, folder: Path) -> str:
    """Fill the bundled starter in.

    Args:
        text: the bundled starter.
        model: Hub id, or a folder with a config.json.
        data: a folder, a file, or a data set's Hub id; a JSONL file's first row says which columns it has.
        framework: whose loop will run, one of `training.framework`.
        folder: where the config will lie; paths are written relative to it, where they lie in it.

    Raises:
        ConfigError: for a model or data that no config could name.
    """
    wanted: dict[str, dict[str, str]] = {"model": {}, "data": {}, "training": {}}
    if model is not None:
        wanted["model"]["id"] = _named(model, folder)
        wanted["training"]["output_dir"] = re.sub(r"[^\w.-]+", "-", Path(model).name) + "-adapter"
    if data is not None:
        wanted["data"] = _data(data, folder)
    if framework is not None:
        wanted["training"]["framework"] = framework
    document = {section: {**values} for section, values in wanted.items()}
    for (section, key), message in path_problems(document, folder):  # type: ignore[arg-type]  # dict is invariant
        raise ConfigError(Problem(Location("<command line>", key=f"{section}.{key}"), message))
    first = f"# vlcheck config: a QLoRA run of {model or 'Gemma 4 31B'} on {data or 'pictures of pets'}."
    return "\n".join((first, *_filled(text.splitlines()[1:], wanted))) + "\n"


def _filled(lines: list[str], wanted: dict[str, dict[str, str]]) -> Iterator[str]:
    section, left = "", {name: dict(values) for name, values in wanted.items()}
    for line in (*lines, "end:"):
        if line and line[0].isalpha():
            yield from (_line(key, value) for key, value in left.pop(section, {}).items() if value)
            section = line.partition(":")[0]
        if line == "end:":
            return
        found = _LINE.match(line)
        if found and (value := left.get(section, {}).pop(found[1], None)) is not None:
            if value:
                yield _line(found[1], value)
            continue
        yield line


def _data(data: str, folder: Path) -> dict[str, str]:
    """Keys of the section `data`; an empty value takes a line of the starter out."""
    there = Path(data).expanduser()
    if not there.exists() and not data.startswith((".", "/", "~")):
        return {"dataset": data, "train_split": "train", "eval_split": ""}
    keys = {"dataset": "", "path": _named(data, folder), "eval_split": ""}
    columns = _columns(there)
    if any(set(chat) <= columns for chat in _CHATS):  # rows that are conversations bring their own question
        return {**keys, "image_column": "", "answer_column": "", "instruction": ""}
    for key, known in (("image_column", _IMAGES), ("answer_column", _ANSWERS)):
        if name := next((name for name in known if name in columns), ""):
            keys[key] = name
    return keys


def _columns(data: Path) -> set[str]:
    """Columns of the first row of a JSONL file, or of the one that a folder of data keeps."""
    files = [data / name for name in _SPLITS] if data.is_dir() else [data]
    for file in files:
        line = next(islice((line for line in read_head(file).splitlines() if line.strip()), 1), "")
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            return set(row)
    return set()


def _named(name: str, folder: Path) -> str:
    """How a config in a folder names what lies here: relative where it lies below, else in full; a Hub id as it is."""
    there = Path(name).expanduser()
    if not there.exists():
        return name
    full = there.resolve()
    below = os.path.relpath(full, folder.resolve())
    return str(full) if below.startswith("..") else f"./{below}"


def _line(key: str, value: str) -> str:
    plain = re.fullmatch(r"[A-Za-z./~][\w./-]*", value)
    return f"  {key}: {value if plain else quoted(value, 4000)}"
