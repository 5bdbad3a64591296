"""A tiny base in 16 bits, in shards, with its processor, and adapters of it: to be merged, or damaged first."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from tests.tiny import small_vocabulary
from vlcheck.adapters.saved import SETTINGS, WEIGHTS
from vlcheck.model.base_weights import INDEX
from vlcheck.model.build import adapt, build_base
from vlcheck.model.family import CLIP_BOUNDS
from vlcheck.model.random_weights import materialise
from vlcheck.spec import Lora, RunSpec

SHARD = "200KB"
BOUNDS = dict(zip(CLIP_BOUNDS, (-4.0, 4.0, -8.0, 8.0), strict=True))


def write_base(folder: Path, values: dict[str, Any], *, shard: str = SHARD, dtype: str = "bfloat16") -> Path:
    """A base with random weights and finite clip bounds, as `save_pretrained` writes it."""
    model: Any = build_base(values, dtype=dtype)
    materialise(model, "cpu", 0)
    for name, buffer in model.named_buffers():
        if (bound := name.rpartition(".")[2]) in BOUNDS:
            buffer.fill_(BOUNDS[bound])
    model.save_pretrained(folder, max_shard_size=shard)
    return folder


def write_large_base(folder: Path, values: dict[str, Any], shard_bytes: int) -> Path:
    """A base of any size with random weights, written a piece at a time; the model takes no memory."""
    from transformers.core_model_loading import revert_weight_conversion

    model: Any = build_base(values)
    own = {key: tensor for key, tensor in model.state_dict().items() if key not in model.all_tied_weights_keys}
    stored = revert_weight_conversion(model, own)
    shards: list[dict[str, torch.Tensor]] = [{}]
    for key, tensor in stored.items():
        if sum(t.nbytes for t in shards[-1].values()) + tensor.nbytes > shard_bytes and shards[-1]:
            shards.append({})
        shards[-1][key] = tensor
    folder.mkdir(parents=True)
    names = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    piece = (torch.randn(2**22) * 0.02).bfloat16().view(torch.uint8).numpy().tobytes()
    for name, shard in zip(names, shards, strict=True):
        _write_shard(folder / name, shard, piece)
    weight_map = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def _write_shard(file: Path, shard: dict[str, torch.Tensor], piece: bytes) -> None:
    header, start = {}, 0
    for key, tensor in shard.items():
        assert tensor.dtype == torch.bfloat16, key
        header[key] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [start, start + tensor.nbytes]}
        start += tensor.nbytes
    text = json.dumps(header).encode()
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for key, tensor in shard.items():
            if (bound := key.rpartition(".")[2]) in BOUNDS:
                out.write(torch.tensor([BOUNDS[bound]]).bfloat16().view(torch.uint8).numpy().tobytes())
            else:
                for first in range(0, tensor.nbytes, len(piece)):
                    out.write(piece[: tensor.nbytes - first])


def write_adapter(folder: Path, base: Path, lora: Lora, *, std: float = 0.1) -> Path:
    """An adapter on a stored base as PEFT saves it, every tensor drawn; the model takes no memory."""
    model: Any = adapt(build_base(json.loads((base / "config.json").read_text())), lora, device="meta")
    torch.manual_seed(1)
    tensors = {
        key: torch.randn(tensor.shape) * std
        for key, tensor in get_peft_model_state_dict(model, save_embedding_layers=False).items()
    }
    tensors |= {key: tensor.abs() + 0.5 for key, tensor in tensors.items() if "magnitude" in key}
    if lora.ensure_weight_tying:
        heads, words = ([key for key in tensors if f"{name}.weight" in key] for name in ("lm_head", "embed_tokens"))
        tensors |= {head: tensors[word].clone() for head, word in zip(heads, words, strict=True)}
    settings = model.peft_config["default"]
    settings.base_model_name_or_path, settings.inference_mode = str(base), True
    settings.save_pretrained(folder)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


@dataclass(frozen=True)
class Merge:
    """A base and an adapter, each a copy to be damaged, and where the merged model goes."""

    spec: RunSpec
    base: Path
    adapter: Path
    out: Path

    def tensors(self, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
        """The adapter's file with other tensors."""
        file = self.adapter / WEIGHTS
        save_file(change(load_file(file)), file, metadata={"format": "pt"})

    def settings(self, **changed: Any) -> None:
        """adapter_config.json with other settings."""
        rewrite(self.adapter / SETTINGS, **changed)

    def shard(self, number: int = -1) -> Path:
        """One of the base's files."""
        return sorted(self.base.glob("*.safetensors"))[number]

    def weights(self) -> dict[str, torch.Tensor]:
        """All of the base's tensors."""
        return weights(self.base)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a folder's files."""
    return {key: tensor for file in folder.glob("*.safetensors") for key, tensor in load_file(file).items()}


def rewrite(file: Path, **changed: Any) -> None:
    """A JSON file with other entries."""
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))


def with_processor(base: Path) -> Path:
    """A base with the small vocabulary's processor beside it."""
    for file in small_vocabulary().iterdir():
        if file.name != "config.json":
            shutil.copy(file, base)
    return base
