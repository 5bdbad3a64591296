"""An evaluation's folder: predictions as they come, then, once all are there, what they are worth.

`settings.json` is written first and says what is being evaluated, `predictions.jsonl` grows, and
`evaluation.json` comes last and whole: a folder without it is an evaluation that was interrupted, which a run
with the same settings takes up.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlcheck.data.atomic_write import write_whole
from vlcheck.spec import ConfigError, Location, Problem

SCHEMA, SETTINGS_SCHEMA = "vlcheck.evaluation.run/1", "vlcheck.evaluation.run.settings/1"
DOCUMENT, SETTINGS, PREDICTIONS = "evaluation.json", "settings.json", "predictions.jsonl"
CHART, WRONG = "confusion.png", "wrong.png"
LARGEST_JSON_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation, read back."""

    file: Path
    document: Mapping[str, Any]
    predictions: tuple[Mapping[str, Any], ...]
    """In the order of the split; each has at least `name`, `expected`, `answer` and `correct`."""


def claim(folder: Path) -> None:
    """Make sure that an evaluation may be written to a folder; make the folder.

    Raises:
        ConfigError: if it holds files of these names that no evaluation of vlcheck's wrote, or cannot be written.
    """
    there = [name for name in (DOCUMENT, SETTINGS, PREDICTIONS, CHART, WRONG) if os.path.lexists(folder / name)]
    ours = _schema(folder / DOCUMENT) == SCHEMA or _schema(folder / SETTINGS) == SETTINGS_SCHEMA
    if there and not ours:
        raise _refusal(folder / there[0], "is there and no evaluation of vlcheck's; name another folder with --output")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{os.getpid()}.part"
        draft.touch()
        draft.unlink()
    except OSError as refused:
        raise _refusal(folder, f"cannot be written to: {refused.strerror}") from refused


def begin(folder: Path, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Open a folder for an evaluation: what an interrupted one with the same settings predicted, or nothing.

    A finished evaluation is begun anew. A last line that was cut off is dropped.
    """
    document = {"schema": SETTINGS_SCHEMA, **settings}
    finished, file = (folder / DOCUMENT).exists(), folder / PREDICTIONS
    kept = [] if finished or _read(folder / SETTINGS) != json.loads(_text(document)) else _lines(file)
    for name in (DOCUMENT, CHART, WRONG):
        (folder / name).unlink(missing_ok=True)
    if not kept:
        file.unlink(missing_ok=True)
    _write(folder / SETTINGS, _text(document))
    _write(file, "".join(map(line, kept)))
    return kept


def finish(folder: Path, document: Mapping[str, Any]) -> None:
    """Write what the predictions are worth; with it the evaluation is complete."""
    _write(folder / DOCUMENT, _text(document))


def line(prediction: Mapping[str, Any]) -> str:
    """One line of the predictions."""
    return json.dumps(prediction, ensure_ascii=False) + "\n"


def read_evaluation(path: Path) -> Evaluation:
    """Read a finished evaluation from its folder, or from the evaluation.json in it.

    Raises:
        ConfigError: if there is none, it is not finished, or its files are damaged.
    """
    file = path / DOCUMENT if path.is_dir() else path
    if not file.exists():
        if (file.parent / SETTINGS).exists():
            raise _refusal(file.parent, "holds an evaluation that was interrupted; run `vlcheck evaluate` again")
        raise _refusal(path, f"holds no {DOCUMENT}; name a folder that `vlcheck evaluate` wrote")
    document = _read(file)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise _refusal(file, f"is no evaluation of vlcheck's; expected: schema {SCHEMA}")
    predictions = _lines(file.parent / PREDICTIONS)
    if not isinstance(document.get("settings"), dict) or document.get("n") != len(predictions):
        raise _refusal(file, f"counts {document.get('n')} rows, and {PREDICTIONS} beside it has {len(predictions)}")
    return Evaluation(file, document, tuple(predictions))


def _write(file: Path, text: str) -> None:
    try:
        write_whole(file, text, errors="backslashreplace")
    except OSError as refused:
        raise _refusal(file, f"cannot be written: {refused.strerror}") from refused


def _text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _lines(file: Path) -> list[dict[str, Any]]:
    """Predictions up to the first line that is none."""
    found: list[dict[str, Any]] = []
    try:
        with file.open(encoding="utf-8") as stream:
            for text in stream:
                value = json.loads(text) if text.endswith("\n") else None
                if not isinstance(value, dict) or not _sound(value):
                    break
                found.append(value)
    except FileNotFoundError:
        return []
    except (OSError, ValueError):
        return found
    return found


def _sound(prediction: Mapping[str, Any]) -> bool:
    texts, counts = ("name", "expected", "answer"), ("row", "prompt_tokens", "new_tokens")
    flags = ("correct", "ended")
    return (
        all(isinstance(prediction.get(key), str) for key in texts)
        and all(isinstance(prediction.get(key), int) for key in counts)
        and all(isinstance(prediction.get(key), bool) for key in flags)
    )


def _schema(file: Path) -> object:
    document = _read(file)
    return document.get("schema") if isinstance(document, dict) else None


def _read(file: Path) -> object:
    """A JSON document; None if there is none."""
    try:
        if file.stat().st_size > LARGEST_JSON_BYTES or not file.is_file():
            return None
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _refusal(file: Path, fault: str) -> ConfigError:
    return ConfigError(Problem(Location(str(file)), fault))
