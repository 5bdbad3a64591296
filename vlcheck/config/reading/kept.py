"""JSON documents that vlcheck wrote itself and reads again: told by their schema and version."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from vlcheck.spec import ConfigError, Location, Problem

T = TypeVar("T")


def read_kept(path: Path, kind: str, writer: str, schema: tuple[str, int], convert: Callable[[Any], T]) -> T:
    """Read a document back.

    Args:
        kind: what messages call it.
        writer: the command or option that writes one.
        schema: its name and version.
        convert: from the document; raises ValueError, KeyError, TypeError or AttributeError for one that is not whole.

    Raises:
        ConfigError: if there is none, or it is none of ours.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if (document["schema"], document["version"]) != schema:
            raise ValueError(f"schema {document['schema']!r} version {document['version']!r}")
        return convert(document)
    except FileNotFoundError:
        problem = f"no such file; {writer} writes one"
    except OSError as refused:
        problem = f"cannot be read: {refused.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"is no {kind} of version {schema[1]} ({type(error).__name__}: {error})"
    raise ConfigError(Problem(Location(str(path)), f"{kind} {problem}"))
