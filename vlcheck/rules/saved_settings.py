"""VLC71x: what adapter_config.json says, against the run's config and against the tensors beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from vlcheck.finding import Examined, Finding, Json, NotApplicable, Severity, rule
from vlcheck.model.bounded_regex import SECONDS

if TYPE_CHECKING:
    from torch import nn

    from vlcheck.adapters.load import ExpectedAdapter, ExpectedTensor, LoadedAdapter
    from vlcheck.adapters.safetensors import StoredTensor
    from vlcheck.adapters.saved import SavedAdapter, Settings
    from vlcheck.model.targets import Targets
    from vlcheck.spec import Lora, RunSpec

NO_MATTER = ("target_modules", "lora_dropout", "task_type", "ensure_weight_tying")
"""Fields that say nothing of what was learnt; targets are compared by what they match."""
LITERAL = re.compile(r"[\w.]+")


@rule("VLC710", "no-lora-settings", Severity.ERROR, explains=("VLC701", "VLC702", "VLC706"))
def no_lora_settings(saved_adapter: SavedAdapter) -> Iterator[Finding | Examined]:
    """adapter_config.json is missing, or describes something else than a LoRA adapter.

    PEFT reads it before the tensors: rank, scaling and targets are in it alone. Without it nothing can be
    loaded, and nobody can tell afterwards what alpha the tensors were trained with.

    Remedy: save with `save_pretrained` of the PEFT model; it writes both files.

    Source: https://huggingface.co/docs/peft/developer_guides/checkpoint
    """
    yield Examined(1, "adapter_config.json")
    settings = saved_adapter.settings
    if settings is None:
        yield Finding("there is no adapter_config.json beside the tensors", where=saved_adapter.where)
    elif settings.lora is None:
        yield Finding(
            f"adapter_config.json describes an adapter of the kind {settings.peft_type[:40]}, the run trains LORA",
            where=settings.where,
            measured={"peft_type": settings.peft_type[:40]},
        )


@rule("VLC711", "settings-differ", Severity.WARNING, explains=("VLC701", "VLC702", "VLC705", "VLC706"))
def settings_differ(
    spec: RunSpec, saved_adapter: SavedAdapter, expected_adapter: ExpectedAdapter, saved_targets: frozenset[str] | None,
    targets: Targets,
) -> Iterator[Finding | Examined]:  # fmt: skip
    """adapter_config.json differs from the run's config in what shapes or scales the adapter.

    `PeftModel.from_pretrained` goes by adapter_config.json, a script that builds the adapter from its own config
    and then loads the tensors by that. With another alpha, or rslora on one side, the delta is multiplied by
    another number, and nothing complains.

    Remedy: judge the adapter with the config that it was trained with, or correct whichever is wrong.

    Source: https://huggingface.co/docs/peft/package_reference/lora
    """
    settings, lora = _lora(saved_adapter)
    compared = [field.name for field in fields(lora) if field.name not in NO_MATTER]
    yield Examined(len(compared) + 1, "settings compared")
    for name in compared:
        here, there = _plain(getattr(spec.lora, name)), _plain(getattr(lora, name))
        if here != there:
            yield Finding(
                f"{name} is {_short(there)} in adapter_config.json, and {_short(here)} in the run's config",
                where=settings.where,
                measured={"setting": name, "adapter_config.json": _short(there), "config": _short(here)},
            )
    if (difference := _targets_differ(lora, expected_adapter, saved_targets, targets)) is not None:
        yield Finding(f"target_modules of adapter_config.json {difference}", where=settings.where)


@rule("VLC712", "rank-differs", Severity.ERROR, explains=("VLC705",))
def rank_differs(saved_adapter: SavedAdapter, loaded_adapter: LoadedAdapter) -> Iterator[Finding | Examined]:
    """Tensors have another rank than the adapter_config.json beside them.

    The two files were not saved together: a config edited by hand, or a checkpoint copied over another.
    `PeftModel.from_pretrained` builds the adapter by adapter_config.json and fails on the tensors; a loader
    that takes the rank from the tensors multiplies the delta by the wrong alpha / r.

    Remedy: find the adapter_config.json that belongs to these tensors.

    Source: https://huggingface.co/docs/peft/package_reference/lora
    """
    settings, lora = _lora(saved_adapter)
    ranked = [
        (f.tensor, f.place, rank) for f in loaded_adapter.tensors if f.place and (rank := _rank(f.tensor, f.place))
    ]
    yield Examined(len(ranked), "tensors with a rank")
    wrong = [(tensor, rank) for tensor, place, rank in ranked if rank not in _allowed(lora, place.module)]
    if wrong:
        tensor, rank = wrong[0]
        yield Finding(
            f"{len(wrong)} of {len(ranked)} tensors do not have the rank of adapter_config.json; first: {tensor.name} "
            f"has {rank}, r is {lora.r}",
            where=settings.where,
            measured={
                "tensors": len(wrong),
                "rank": rank,
                "r": lora.r,
                "rank_pattern": _short(_plain(lora.rank_pattern)),
            },
        )


@rule("VLC713", "base-differs", Severity.WARNING)
def base_differs(spec: RunSpec, saved_adapter: SavedAdapter) -> Iterator[Finding | Examined]:
    """adapter_config.json names another base model than the run's config.

    A delta is of use on the weights that it was trained on. Sizes of one family often have layers of equal
    shape, and a base and its instruction-tuned sibling always do: the adapter then loads, and the answers
    are poor.

    Remedy: name the model in `model.id` that the adapter was trained on.

    Source: https://huggingface.co/docs/peft/developer_guides/checkpoint
    """
    settings = saved_adapter.settings
    if settings is None or not settings.base:
        raise NotApplicable("adapter_config.json names no base model")
    yield Examined(1, "name of a base model")
    if not _same_base(settings.base, spec.model.id):
        yield Finding(
            f"the adapter was trained on {settings.base[:200]}, the run's model is {spec.model.id}",
            where=settings.where,
            measured={"base_model_name_or_path": settings.base[:200], "model.id": spec.model.id},
        )


@rule("VLC714", "sharded-adapter", Severity.WARNING)
def sharded_adapter(saved_adapter: SavedAdapter) -> Iterator[Finding | Examined]:
    """The adapter is spread over several files, which PEFT does not put together.

    PEFT's loader asks for adapter_model.safetensors (else adapter_model.bin) and knows no index.

    Remedy: load the shards with safetensors, and save all tensors as one adapter_model.safetensors.

    Source: peft, utils/save_and_load.py, load_peft_weights
    """
    files = {tensor.file for tensor in saved_adapter.tensors}
    yield Examined(1, "folder")
    if saved_adapter.sharded:
        yield Finding(
            f"the tensors are in {len(files)} files that an index names; PEFT reads adapter_model.safetensors alone",
            where=saved_adapter.where,
            measured={"files": len(files), "tensors": len(saved_adapter.tensors)},
        )


@rule("VLC715", "saved-targets-refused", Severity.ERROR)
def saved_targets_refused(
    saved_adapter: SavedAdapter, saved_matches: Mapping[str, str] | None, reference: nn.Module
) -> Iterator[Finding | Examined]:
    """adapter_config.json's own targets match nothing of this model, or modules that LoRA cannot adapt.

    `PeftModel.from_pretrained` attaches the adapter by these targets before it reads a tensor, and raises
    ValueError. Some trainers write a regex that hits containers (`model`, `model.visual`) beside the layers and
    leave out the containers by themselves; PEFT does not. The tensors are sound, the file is not. A regex is matched
    in a process of its own, and one that does not end in time is reported as such.

    Remedy: in adapter_config.json, replace `target_modules` by the list of layers that the tensors belong to.

    Source: https://github.com/huggingface/peft/issues/2388
    """
    from vlcheck.model.misnamed import suspected

    settings, lora = _lora(saved_adapter)
    if saved_matches is None:
        yield Finding(
            f"target_modules of adapter_config.json is a regex that took more than {SECONDS:g} s to match; PEFT "
            "runs it on every module's path",
            where=settings.where,
            measured={"target_modules": _short(_plain(lora.target_modules))},
        )
        return
    yield Examined(len(saved_matches), "modules that the saved targets match")
    unfit = [name for name in saved_matches if not _adaptable(reference.get_submodule(name))]
    if unfit:
        yield Finding(
            f"target_modules of adapter_config.json matches {len(saved_matches)} modules, and {len(unfit)} of them are "
            f"none that LoRA can adapt, so PEFT refuses to load the adapter; first: {unfit[0]} "
            f"({saved_matches[unfit[0]]})",
            where=settings.where,
            measured={
                "matched": len(saved_matches),
                "refused": len(unfit),
                "target_modules": _short(_plain(lora.target_modules)),
            },
            fix="list the layers of the tensors as target_modules in adapter_config.json",
        )
    elif not saved_matches and not lora.target_parameters:
        yield Finding(
            "target_modules of adapter_config.json matches no module of this model, so PEFT refuses the adapter"
            + "".join(f"; {reason}" for reason in suspected(reference, lora.target_modules or ())),
            where=settings.where,
            measured={"matched": 0, "target_modules": _short(_plain(lora.target_modules))},
            fix="list the layers of the tensors as target_modules in adapter_config.json",
        )


def _adaptable(module: nn.Module) -> bool:
    """Whether PEFT's LoRA takes a module of this class; the list is the one of its error message."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return isinstance(
        module, nn.Linear | nn.Embedding | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.MultiheadAttention | Conv1D
    )


def _lora(saved_adapter: SavedAdapter) -> tuple[Settings, Lora]:
    settings = saved_adapter.settings
    if settings is None or settings.lora is None:
        raise NotApplicable("there are no LoRA settings in an adapter_config.json, see VLC710")
    return settings, settings.lora


def _targets_differ(
    lora: Lora, expected: ExpectedAdapter, saved: frozenset[str] | None, targets: Targets
) -> str | None:
    """A regex from the folder is compared as text: to run it would be to run a stranger's regex."""
    if saved is None:
        return (
            None
            if (lora.target_modules or frozenset()) == expected.target_modules
            else "are another regex than the run's"
        )
    if saved == frozenset(targets.modules):
        return None
    return f"match {len(saved)} modules of this model, those of the run {len(targets.modules)}"


def _rank(tensor: StoredTensor, place: ExpectedTensor) -> int:
    """The rank that a tensor was made with; fused experts hold one for each expert in a row."""
    side = 0 if "lora_A" in place.key or "lora_embedding_A" in place.key else 1
    if place.rank is None or len(tensor.shape) != len(place.shape) or len(place.shape) < 2:
        return 0
    return tensor.shape[side] * place.rank // place.shape[side]


def _allowed(lora: Lora, module: str) -> set[int]:
    """Ranks that adapter_config.json can mean for a module; keys that are regexes are not run."""
    for key, rank in lora.rank_pattern.items():
        if LITERAL.fullmatch(key) and (module == key or module.endswith(f".{key}")):
            return {rank}
    return {lora.r} | {rank for key, rank in lora.rank_pattern.items() if not LITERAL.fullmatch(key)}


def _same_base(saved: str, wanted: str) -> bool:
    from vlcheck.model.catalogue import lookup

    known = lookup(saved), lookup(wanted)
    last = [PurePath(name).name.lower() for name in (saved, wanted)]
    return last[0] == last[1] or (known[0] is not None and known[0] == known[1])


def _plain(value: Any) -> Any:
    """A setting without its order: an empty list and none are alike."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return sorted(map(str, value)) or None
    return value


def _short(value: Any) -> Json:
    return value if isinstance(value, bool | int | float | None) else str(value)[:200]
