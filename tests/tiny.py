"""Real tiny models: a config.json in a folder, small enough that full size takes a fraction of a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vlcheck import catalogue
from vlcheck.families import family_of
from vlcheck.family import CLIP_BOUNDS
from vlcheck.model import build_reference, transformers_config

VISION_WRAPPERS = 14  # two encoder layers of seven projections each


def gemma4(*, clip: bool = True, audio: bool = False, experts: bool = False) -> dict[str, Any]:
    """Two text layers, two vision layers, Gemma 4 E2B in miniature; no per-layer inputs, no shared caches."""
    values = json.loads(json.dumps(_entry("google/gemma-4-E2B-it")))
    text = values["text_config"]
    text.update(hidden_size_per_layer_input=0, num_kv_shared_layers=0, use_bidirectional_attention="vision")
    if experts:
        text.update(enable_moe_block=True, num_experts=4, top_k_experts=2, moe_intermediate_size=16)
    values["vision_config"]["use_clipped_linears"] = clip
    if not audio:
        values["audio_config"] = None
    return _shrunk(values, {"model.language_model.layers": (0, 4)})


def gemma3() -> dict[str, Any]:
    """Two text layers, two vision layers."""
    return _shrunk(_entry("google/gemma-3-4b-it"), {"model.language_model.layers": (0, 5)})


def write_folder(folder: Path, values: dict[str, Any], bounds: dict[str, float] | None = None) -> Path:
    """A local model folder; with bounds, also a checkpoint that stores these four for every vision wrapper."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values))
    if bounds is not None:
        write_checkpoint(
            folder, {f"{name}.{bound}": value for name in wrappers(values) for bound, value in bounds.items()}
        )
    return folder


def write_checkpoint(folder: Path, scalars: dict[str, float]) -> None:
    """A safetensors file that holds these scalars and nothing else."""
    import torch
    from safetensors.torch import save_file

    save_file({name: torch.tensor(value) for name, value in scalars.items()}, folder / "model.safetensors")


def wrappers(values: dict[str, Any]) -> list[str]:
    """Paths of a model's clip wrappers."""
    family = family_of(values)
    return [n for n, m in build_reference(values).named_modules() if type(m).__name__ == family.clip_wrapper]


FINITE = dict(zip(CLIP_BOUNDS, (-1.0, 1.0, -2.0, 2.0), strict=True))


def _entry(hub_id: str) -> dict[str, Any]:
    found = catalogue.lookup(hub_id)
    assert found is not None
    return dict(found.config)


def _shrunk(values: dict[str, Any], text: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    full = transformers_config(values).to_dict()
    family = family_of(values)
    return json.loads(json.dumps(family.shrink(full, dict.fromkeys(family.layer_kinds(full), (0, 1)) | text)))
