"""An adapter folder as PEFT's `save_pretrained` leaves it: described, never loaded, and never unpickled."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

from vlcheck.adapters.safetensors import StoredTensor, open_regular, read_header, read_json, refusal, shown
from vlcheck.spec import Location, Lora

WEIGHTS = "adapter_model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
PICKLE = "adapter_model.bin"
SETTINGS = "adapter_config.json"
LARGEST_JSON_BYTES = 16 * 2**20
MOST_SHARDS = 1000


@dataclass(frozen=True)
class Settings:
    """What adapter_config.json says."""

    file: Path
    peft_type: str
    base: str
    """Id or folder of the base model; empty if it names none."""
    lora: Lora | None
    """Its LoRA settings, the library's defaults where it is silent; None for another kind of adapter."""

    @property
    def where(self) -> Location:
        """The file, for findings."""
        return Location(str(self.file))


@dataclass(frozen=True)
class SavedAdapter:
    """A folder's tensors and settings."""

    folder: Path
    file: Path
    """The file of the tensors, or the index that names their files."""
    tensors: tuple[StoredTensor, ...]
    settings: Settings | None
    """None if there is no adapter_config.json."""

    @property
    def where(self) -> Location:
        """The file of the tensors, for findings."""
        return Location(str(self.file))

    @property
    def sharded(self) -> bool:
        """Its tensors lie in files that an index names."""
        return self.file.name == INDEX


def read_adapter(folder: str | os.PathLike[str]) -> SavedAdapter:
    """Describe the adapter in a folder, from its files' headers.

    Raises:
        ConfigError: if there is none, or a file of it is damaged, too large, or of a kind that is never opened.
    """
    home = Path(folder)
    if not home.is_dir():
        raise refusal(home, "is no folder; name the folder that holds adapter_model.safetensors")
    settings = _settings(home / SETTINGS) if _there(home / SETTINGS) else None
    if _there(home / WEIGHTS):
        return SavedAdapter(home, home / WEIGHTS, read_header(home / WEIGHTS), settings)
    if _there(home / INDEX):
        return SavedAdapter(home, home / INDEX, tuple(_sharded(home / INDEX)), settings)
    if not _there(home / PICKLE):
        raise refusal(home, f"holds no {WEIGHTS}{_hint(home)}")
    raise refusal(
        home / PICKLE,
        "is a pickle, which can run code when it is read, so vlcheck never opens one; save the adapter as "
        "safetensors (save_pretrained does by default)",
    )


def _sharded(index: Path) -> Iterator[StoredTensor]:
    match _document(index):
        case {"weight_map": dict(weight_map)}:
            pass
        case _:
            raise refusal(index, "is damaged: it has no weight_map")
    names = {name if isinstance(name, str) else repr(name) for name in weight_map.values()}
    if len(names) > MOST_SHARDS:
        raise refusal(index, f"names {len(names)} files; at most {MOST_SHARDS} are read")
    seen: set[str] = set()
    for name in sorted(names):
        shard = index.parent / name
        if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
            raise refusal(index, f"names {shown(name)}, which is no safetensors file of its own folder")
        if not _there(shard):
            raise refusal(index, f"names {shown(name)}, which is not here")
        if shard.is_symlink():
            raise refusal(index, f"names {name}, which is a symbolic link; links are not followed from an index")
        for tensor in read_header(shard):
            if weight_map.get(tensor.name) != name or tensor.name in seen:
                raise refusal(index, f"does not say that tensor {shown(tensor.name)} is in {name}, and it is there")
            seen.add(tensor.name)
            yield tensor
    if absent := sorted(set(weight_map) - seen):
        raise refusal(
            index, f"names tensor {shown(absent[0])} and {len(absent) - 1} more that are in none of its files"
        )


def _settings(file: Path) -> Settings:
    document = _document(file)
    if not isinstance(document, dict):
        raise refusal(file, "is no JSON object")
    kind, base = document.get("peft_type"), document.get("base_model_name_or_path")
    if not isinstance(kind, str) or not isinstance(base, str | None):
        raise refusal(file, "has no sound peft_type and base_model_name_or_path; expected: text")
    return Settings(file, kind, base or "", _lora(file, document) if kind == "LORA" else None)


def _lora(file: Path, document: dict[str, Any]) -> Lora:
    """Its LoRA settings, checked against the types and bounds of our own."""
    from pydantic import TypeAdapter, ValidationError

    names = {field.name for field in fields(Lora)} - {"task_type"}  # says nothing of the tensors
    given = {name: value for name, value in document.items() if name in names and value not in (None, [])}
    try:
        return TypeAdapter(Lora).validate_json(json.dumps(given), strict=True)
    except ValidationError as error:
        fault = error.errors()[0]
        raise refusal(
            file, f"has an unusable {shown('.'.join(map(str, fault['loc'])))}: {shown(fault['msg'])}"
        ) from None


def _document(file: Path) -> object:
    with open_regular(file) as stream:
        text = stream.read(LARGEST_JSON_BYTES + 1)
    if len(text) > LARGEST_JSON_BYTES:
        raise refusal(file, f"is larger than {LARGEST_JSON_BYTES} bytes")
    return read_json(file, text)


def _there(file: Path) -> bool:
    try:
        return os.path.lexists(file)
    except ValueError:  # a null byte in a name
        return False


def _hint(home: Path) -> str:
    """Where the user may have meant to point."""
    inside = [entry.name for entry in islice(home.iterdir(), 1000) if _there(entry / WEIGHTS)]
    if inside:
        return f"; {sorted(inside)[0]} in it does"
    if _there(home / "config.json"):
        return "; it looks like a model's folder, not an adapter's"
    return ""
