"""Clip bounds as a checkpoint stores them: four scalars a wrapper, read from local safetensors."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vlcheck.finding import Unavailable
from vlcheck.model.family import CLIP_BOUNDS

INDEX = "model.safetensors.index.json"
UNLOCK = "download the checkpoint, or give model.id a local folder with its safetensors"


@dataclass(frozen=True)
class StoredBounds:
    """Bounds by wrapper, each a mapping from bound name to value; a bound the file lacks is absent."""

    values: Mapping[str, Mapping[str, float]]
    files: int


def read_bounds(folder: Path | None, wrappers: list[str]) -> StoredBounds:
    """Read the bounds of these wrappers; only the scalars are read, never the weights.

    Args:
        folder: where config.json was found; None if it came from the catalogue.

    Raises:
        Unavailable: if there are no safetensors beside the config, or they cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    files = [] if folder is None else _files(folder)
    if not files:
        raise Unavailable("needs weights: clip bounds are stored in the checkpoint, not in its config", UNLOCK)
    found: dict[str, dict[str, float]] = {name: {} for name in wrappers}
    wanted = {f"{name}.{bound}": (name, bound) for name in wrappers for bound in CLIP_BOUNDS}
    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118 (not a mapping)
                    if key in wanted:
                        name, bound = wanted[key]
                        tensor = tensors.get_tensor(key)
                        found[name][bound] = float(tensor) if tensor.numel() == 1 else math.nan
        except (OSError, SafetensorError) as error:
            raise Unavailable(f"{file.name} cannot be read as safetensors: {error}", UNLOCK) from error
    return StoredBounds(found, len(files))


def _files(folder: Path) -> list[Path]:
    """The files that hold a wrapper's bounds where an index says so, else every safetensors file here."""
    try:
        index = json.loads((folder / INDEX).read_text("utf-8"))["weight_map"]
        names = {file for key, file in index.items() if key.rpartition(".")[2] in CLIP_BOUNDS}
    except FileNotFoundError:
        return sorted(folder.glob("*.safetensors"))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise Unavailable(f"{INDEX} is damaged: {type(error).__name__}", UNLOCK) from error
    names = names or set(index.values())
    outside = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    if outside:
        raise Unavailable(f"{INDEX} names a file outside its folder: {outside[0]!r}", UNLOCK)
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing:
        raise Unavailable(f"{missing[0]} is named in {INDEX} but is not here", UNLOCK)
    return [folder / name for name in sorted(names)]
