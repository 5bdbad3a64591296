"""Are a model's stored names those that vLLM expects? By a table of its loaders, each row with its source.

vLLM renames what it loads by prefix and puts it into modules of its own; whatever then has no module ends the load. A
row of `serving.json` says how its loader of one architecture renames, which modules it has, and whether it serves
adapters of that architecture without a merge, each with the release or commit that it was read in. What no source was
found for is null there, and is said to be unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from vlcheck.adapters.safetensors import read_header


@cache
def table() -> Mapping[str, Any]:
    """The whole of `serving.json`."""
    found: dict[str, Any] = json.loads((files("vlcheck.adapters") / "serving.json").read_text("utf-8"))
    return found


def serving_names(config: Mapping[str, Any], weights: Iterable[Path]) -> dict[str, Any]:
    """What vLLM makes of the stored names of a model.

    Args:
        config: the model's config.json.
        weights: its safetensors; their headers are read.

    Returns:
        `engine`, `architecture`, `read` (when the sources were); `expected`: whether each name ends in a module that
        vLLM has, null where no source was found; `strange`: up to three names that do not; `version` and `source` of
        that; `lora`: whether adapters are served unmerged, null where the table of supported models does not say, and
        `lora_source`.
    """
    named = str((config.get("architectures") or [""])[0])
    row: Mapping[str, Any] = next((row for row in table()["rows"] if row["architecture"] == named), {})
    expected, strange = None, list[str]()
    if row.get("modules") is not None:
        names = (tensor.name for file in weights for tensor in read_header(file))
        modules = tuple(row["modules"])
        strange = sorted(name for name in names if not renamed(name, row["renames"]).startswith(modules))
        expected = not strange
    return {
        "engine": table()["engine"], "architecture": named, "read": table()["read"], "expected": expected,
        "strange": strange[:3], "version": row.get("version"), "source": row.get("source"), "lora": row.get("lora"),
        "lora_source": table()["lora"]["source"],
    }  # fmt: skip


def renamed(name: str, renames: Mapping[str, str]) -> str:
    """A stored name as vLLM's loader has it."""
    old = next((prefix for prefix in renames if name.startswith(prefix)), "")
    return renames[old] + name[len(old) :] if old else name
