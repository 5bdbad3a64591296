"""Adapters saved by real PEFT, and faults to plant in their files; all of it for any model's config."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests import tiny
from tests.broken import patches
from vlcheck.adapters.saved import INDEX, SETTINGS, WEIGHTS
from vlcheck.engine import check_adapter
from vlcheck.evidence.resolve import Evidence
from vlcheck.finding import Report
from vlcheck.model.build import Weights, build_model
from vlcheck.model.families import family_of
from vlcheck.model.family import Part
from vlcheck.model.reference import build_reference
from vlcheck.spec import Lora, ModelRef, RunSpec

LORA = Lora(r=4, lora_alpha=4, target_modules="all-linear")
HOME = TemporaryDirectory(prefix="vlcheck-adapters-")
SCALE = 0.02
NOTHING: Mapping[str, Any] = MappingProxyType({})

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Saved:
    """A folder with a saved adapter, to be damaged."""

    folder: Path
    values: Mapping[str, Any]

    def tensors(self) -> Tensors:
        """Everything in the file."""
        return load_file(self.folder / WEIGHTS)

    def write(self, tensors: Tensors) -> None:
        """The file with other tensors."""
        save_file(tensors, self.folder / WEIGHTS, metadata={"format": "pt"})

    def rename(self, renamed: Callable[[str], str]) -> None:
        """The file with other keys."""
        self.write({renamed(key): tensor for key, tensor in self.tensors().items()})

    def change(self, changed: Callable[[torch.Tensor], torch.Tensor], keys: Iterable[str]) -> None:
        """The file with other values under these keys."""
        tensors = self.tensors()
        self.write(tensors | {key: changed(tensors[key]).contiguous() for key in keys})

    def drop(self, keys: Iterable[str]) -> None:
        """The file without these keys."""
        dropped = set(keys)
        self.write({key: tensor for key, tensor in self.tensors().items() if key not in dropped})

    def configure(self, **settings: Any) -> None:
        """adapter_config.json with other settings."""
        file = self.folder / SETTINGS
        file.write_text(json.dumps(json.loads(file.read_text()) | settings))

    def keys(self, part: Part | None = None, holding: str = ".lora_") -> list[str]:
        """Keys of a part, or of all, that hold a text."""
        family = family_of(self.values)
        path = "base_model.model."
        return [
            key
            for key in self.tensors()
            if holding in key and (part is None or family.part_of(key.removeprefix(path)) is part)
        ]


def spec_of(values: Mapping[str, Any], patch: str | None = None, **lora: Any) -> RunSpec:
    """A run of this model, whose folder is written once, with LoRA settings that differ from `LORA`."""
    folder = Path(HOME.name) / f"model-{abs(hash(json.dumps(values)))}"
    if not folder.exists():
        tiny.write_folder(folder, dict(values))
    return RunSpec(model=ModelRef(id=str(folder), dtype="float32", patch=patch), lora=replace(LORA, **lora))


def save(values: Mapping[str, Any], folder: Path, **lora: Any) -> Saved:
    """Save an adapter of this model, every tensor of it moved away from its start."""
    shutil.copytree(_saved(json.dumps(values), **lora), folder)
    return Saved(folder, values)


def judge(saved: Saved, patch: str | None = None, lora: Mapping[str, Any] = NOTHING, **options: Any) -> Report:
    """Check it; what does not depend on the adapter is collected once for each run."""
    given = _evidence(json.dumps(saved.values), patch, **lora)
    spec = spec_of(saved.values, patch, **lora)
    return check_adapter(spec, saved.folder, offline=True, allow_code=True, **given, **options)


@cache
def _saved(values: str, **lora: Any) -> Path:
    torch.manual_seed(0)
    folder = Path(HOME.name) / f"adapter-{abs(hash((values, repr(lora))))}"
    spec = spec_of(json.loads(values), **lora)
    model = build_model(spec, Weights.RANDOM, config=json.loads(values))
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(parameter, std=SCALE)
    model.save_pretrained(folder)
    return folder


@cache
def _evidence(values: str, patch: str | None, **lora: Any) -> dict[str, Any]:
    def collected(config, family, reference, skeleton, modules, targets, expected_adapter):
        return locals()

    with patches.undone():
        return Evidence(spec_of(json.loads(values), patch, **lora), {}, allow_code=True, offline=True).call(collected)


# --------------------------------------------------------------------------- faults


@dataclass(frozen=True)
class Fault:
    """Something wrong with an adapter, and every code that it brings up."""

    codes: str
    plant: Callable[[Saved], object] = lambda saved: None
    trained: dict[str, Any] = field(default_factory=dict)
    """LoRA settings that the adapter was saved with, where they differ from `LORA`."""
    run: dict[str, Any] = field(default_factory=dict)
    """LoRA settings of the run's config, where they differ from `LORA`."""
    patch: str | None = None
    where: Callable[[Mapping[str, Any]], bool] = lambda values: True
    """Models that can have this fault."""

    def report(self, values: Mapping[str, Any], folder: Path, **options: Any) -> Report:
        """What is said of an adapter with this fault."""
        saved = save(values, folder, **_resolved(self.trained, values))
        self.plant(saved)
        return judge(saved, self.patch, _resolved(self.run, values), **options)


def reference(values: Mapping[str, Any]) -> torch.nn.Module:
    """The untouched model on meta, built once: which faults it can have is asked before any test runs."""
    return _reference(json.dumps(values))


@cache
def _reference(values: str) -> torch.nn.Module:
    return build_reference(json.loads(values))


def projector(values: Mapping[str, Any]) -> str:
    """Name of the module that PEFT can save as a full copy."""
    modules = dict(reference(values).named_modules())
    savable = {name for name, module in modules.items() if not isinstance(module, torch.nn.ModuleList)}
    roots = (path for path, part in family_of(values).parts.items() if part is Part.PROJECTOR and path in savable)
    return max(roots, key=len).rpartition(".")[2]  # LLaVA-NeXT's own parameters make the whole model a root


def has_tower(values: Mapping[str, Any]) -> bool:
    """Images go through layers of their own before the language model."""
    family = family_of(values)
    return any(family.part_of(name) is Part.VISION for name, _ in reference(values).named_modules())


def adapts_projector(values: Mapping[str, Any]) -> bool:
    """The projector has a linear layer, which `all-linear` adapts."""
    family = family_of(values)
    modules = reference(values).named_modules()
    return any(isinstance(m, torch.nn.Linear) and family.part_of(name) is Part.PROJECTOR for name, m in modules)


def clips(values: Mapping[str, Any]) -> bool:
    """The family has clip wrappers."""
    return family_of(values).clip_wrapper is not None


def ties(values: Mapping[str, Any]) -> bool:
    """Head and embeddings are one weight."""
    return any("lm_head" in key for key in getattr(reference(values), "all_tied_weights_keys", {}))


def _resolved(settings: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value(values) if callable(value) else value for name, value in settings.items()}


def _saves_projector(values: Mapping[str, Any]) -> tuple[str, ...]:
    return (projector(values),)


def _in_shards(saved: Saved) -> None:
    tensors = saved.tensors()
    names = {key: f"adapter_model-{number % 2}.safetensors" for number, key in enumerate(tensors)}
    for name in set(names.values()):
        save_file({key: tensor for key, tensor in tensors.items() if names[key] == name}, saved.folder / name)
    (saved.folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": names}))
    (saved.folder / WEIGHTS).unlink()


def _wider(tensor: torch.Tensor) -> torch.Tensor:
    return torch.cat([tensor, tensor[:, :1]], 1)


def _spoilt(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda tensor: tensor.flatten().index_fill(0, torch.tensor([tensor.numel() // 2]), value).view(tensor.shape)


def _as(dtype: torch.dtype) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda tensor: tensor.to(dtype)


def _minus_zero(tensor: torch.Tensor) -> torch.Tensor:
    return -torch.zeros_like(tensor)


def _empty(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.new_empty(0)


HEAD = "base_model.model."
FAULTS: dict[str, Fault] = {
    "vision tower missing": Fault("VLC701", lambda s: s.drop(s.keys(Part.VISION)), where=has_tower),
    "one tensor missing": Fault("VLC701", lambda s: s.drop(s.keys()[:1])),
    "tensor of another layer": Fault("VLC702", lambda s: s.write(
        s.tensors() | {"base_model.model.model.language_model.layers.99.mlp.up_proj.lora_A.weight": torch.ones(4, 8)})),
    "unwrapped": Fault("VLC701 VLC702 VLC703", lambda s: s.rename(lambda k: k.replace(".linear.lora", ".lora")),
                       where=clips),
    "wrapped, model patched": Fault("VLC701 VLC702 VLC703", patch="tests.broken.patches:replaced", where=clips),
    "prefix twice": Fault("VLC701 VLC702 VLC704", lambda s: s.rename(lambda k: HEAD + k)),
    "prefix of another class": Fault("VLC701 VLC702 VLC704", lambda s: s.rename(
        lambda k: k.replace(HEAD, f"{HEAD}module.transformer."))),
    "rank of the config": Fault("VLC705 VLC711", trained={"r": 8}),
    "width": Fault("VLC705", lambda s: s.change(_wider, s.keys(Part.LANGUAGE, ".lora_A."))),
    "copy missing": Fault("VLC706", lambda s: s.drop(set(s.keys(holding="")) - set(s.keys())),
                          {"modules_to_save": _saves_projector}, {"modules_to_save": _saves_projector}),
    "tied copy": Fault("VLC707", trained={"modules_to_save": ("lm_head",)}, run={"modules_to_save": ("lm_head",)},
                       where=ties),
    "no settings": Fault("VLC710", lambda s: (s.folder / SETTINGS).unlink()),
    "another kind of adapter": Fault("VLC710", lambda s: s.configure(peft_type="LOHA")),
    "alpha": Fault("VLC711", trained={"lora_alpha": 8}),
    "rslora": Fault("VLC711", trained={"use_rslora": True}),
    "dora": Fault("VLC702 VLC711", trained={"use_dora": True}),
    "projector saved in full": Fault("VLC711", trained={"modules_to_save": _saves_projector},
                                     where=lambda values: not adapts_projector(values)),
    "adapted projector saved in full": Fault("VLC701 VLC702 VLC711", trained={"modules_to_save": _saves_projector},
                                             where=adapts_projector),
    "targets": Fault("VLC711", lambda s: s.configure(target_modules=["q_proj"]),
                     where=lambda values: not clips(values)),
    "targets of a clip wrapper": Fault("VLC711 VLC715", lambda s: s.configure(target_modules=["q_proj"]), where=clips),
    "regex that hits containers": Fault("VLC711 VLC715", lambda s: s.configure(target_modules="^(model)(?!.*out).*")),
    "targets of another model": Fault("VLC711 VLC715", lambda s: s.configure(target_modules=["c_attn"])),
    "targets by a stranger's regex": Fault("VLC711 VLC715",
                                           lambda s: s.configure(target_modules="(.*.*)*(.*.*)*(.*)*!")),
    "rank of adapter_config": Fault("VLC711 VLC712", lambda s: s.configure(r=8)),
    "rank pattern": Fault("VLC711 VLC712", lambda s: s.configure(rank_pattern={"q_proj": 16, "linear": 16})),
    "base": Fault("VLC713", lambda s: s.configure(base_model_name_or_path="google/gemma-4-31B")),
    "shards": Fault("VLC714", _in_shards),
    "no tensors": Fault("VLC701 VLC721", lambda s: s.write({})),
    "empty tensors": Fault("VLC705 VLC722", lambda s: s.change(_empty, s.keys(Part.LANGUAGE))),
    "all empty": Fault("VLC705 VLC722", lambda s: s.change(_empty, s.keys())),
    "tower at its start": Fault("VLC723", lambda s: s.change(torch.zeros_like, s.keys(Part.VISION, ".lora_B.")),
                                where=has_tower),
    "all at its start": Fault("VLC723", lambda s: s.change(torch.zeros_like, s.keys(holding=".lora_B."))),
    "minus zero": Fault("VLC723", lambda s: s.change(_minus_zero, s.keys(Part.LANGUAGE, ".lora_B.")[:1])),
    "nan": Fault("VLC724", lambda s: s.change(_spoilt(float("nan")), s.keys()[-1:])),
    "infinity": Fault("VLC724", lambda s: s.change(_spoilt(float("-inf")), s.keys()[:3])),
    "mixed types": Fault("VLC725", lambda s: s.change(_as(torch.bfloat16), s.keys(Part.LANGUAGE))),
    "float8": Fault("VLC725", lambda s: s.change(_as(torch.float8_e4m3fn), s.keys())),
    "integers": Fault("VLC725", lambda s: s.change(_as(torch.int8), s.keys())),
}  # fmt: skip
"""Each brings up exactly these codes, in every model that can have it."""

SOUND: dict[str, Fault] = {
    "as saved": Fault(""),
    "with a full copy": Fault("", trained={"modules_to_save": _saves_projector},
                              run={"modules_to_save": _saves_projector}),
    "in bfloat16": Fault("", lambda s: s.change(_as(torch.bfloat16), s.keys())),
    "of this base": Fault("", lambda s: s.configure(base_model_name_or_path=spec_of(s.values).model.id)),
    "targets as a list": Fault("", lambda s: s.configure(target_modules=module_paths(s))),
    "by regex": Fault("", trained={"target_modules": r".*self_attn.*proj(\.linear)?", "exclude_modules": None},
                      run={"target_modules": r".*self_attn.*proj(\.linear)?"}, where=lambda values: not clips(values)),
}  # fmt: skip
"""Nothing is found in any of these."""


def module_paths(saved: Saved) -> list[str]:
    """Every adapted module by its whole path."""
    return sorted({key.removeprefix(HEAD).partition(".lora_")[0] for key in saved.keys(None)})
