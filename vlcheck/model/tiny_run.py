"""The same run, shrunken to a CPU second, to see how it behaves: which adapters does a gradient reach?

The tiny model has the run's own architecture, patches, adapters and checkpointing settings; only
widths and layer counts differ. Adapters are mirrored from what the full-size run adapts, layer by
layer, so that settings that name layers keep their meaning.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from vlcheck.finding import Unavailable
from vlcheck.model.build import (
    Patch,
    adapt,
    base_of,
    build_base,
    takes_model,
    transformers_config,
)
from vlcheck.model.family import Family, Part, Values
from vlcheck.model.modules import ModuleRow, ModuleTable
from vlcheck.model.random_weights import materialise, seeded
from vlcheck.model.training_mode import prepare_for_training
from vlcheck.spec import Lora, RunSpec

SEED = 0


@dataclass(frozen=True)
class TinyRun:
    """A shrunken run. `layers` maps each layer list to the full-size layers that its layers stand for."""

    model: nn.Module
    layers: Mapping[str, tuple[int, ...]]
    kinds: Mapping[str, Sequence[Hashable]]
    config: Values
    """The config.json that the tiny model was built from."""
    dropped: Sequence[str] = ()
    """Full-size paths whose output the model drops by design."""

    def full_name(self, name: str) -> str:
        """The full-size module that a tiny module stands for."""
        return self._renumbered(name, lambda path, index: self.layers[path][index])

    def tiny_name(self, name: str) -> str:
        """The tiny module that stands for a full-size one: its own layer, else the last one of its kind."""

        def standing_for(path: str, index: int) -> int:
            chosen = self.layers[path]
            if index in chosen:
                return chosen.index(index)
            alike = [n for n, full in enumerate(chosen) if self.kinds[path][full] == self.kinds[path][index]]
            return alike[-1]

        return self._renumbered(name, standing_for)

    def _renumbered(self, name: str, number: Callable[[str, int], int]) -> str:
        for path in self.layers:
            if match := re.fullmatch(rf"{re.escape(path)}\.(\d+)(.*)", name):
                return f"{path}.{number(path, int(match[1]))}{match[2]}"
        return name


@dataclass(frozen=True)
class Reach:
    """Which of the run's trainable adapters a gradient reaches."""

    reached: tuple[ModuleRow, ...]
    unreached: tuple[ModuleRow, ...]
    dropped: tuple[ModuleRow, ...]
    """Adapters on modules whose output the model drops by design; in neither of the others."""
    probed: int
    """Modules that were looked at."""
    loss: float
    what: str = "modules of the miniature asked for a gradient"
    """What these modules are."""

    def of(self, part: Part) -> tuple[int, int]:
        """How many adapters of a part are reached, and how many there are; dropped ones count in neither."""
        reached = sum(row.part is part for row in self.reached)
        return reached, reached + sum(row.part is part for row in self.unreached)


def shrink(spec: RunSpec, config: Values, family: Family, modules: ModuleTable, patch: Patch | None = None) -> TinyRun:
    """Build the tiny run: same structure, random float32 weights, the same modules adapted.

    Args:
        modules: what the full-size run adapts.
        patch: the user's monkeypatch; one that changes classes has already been applied.

    Raises:
        Unavailable: if the family's record does not say how to shrink it.
    """
    if family.layer_kinds is None or family.shrink is None or family.sample_row is None:
        raise Unavailable(f"vlcheck knows no miniature of {family.name}, so no gradient was measured")
    full = transformers_config(config).to_dict()
    kinds = family.layer_kinds(full)
    trained = [row.name for row in modules.rows if row.trainable]
    layers = {path: _representatives(path, of, trained) for path, of in kinds.items()}
    tiny = family.shrink(full, layers)
    with seeded(SEED):
        base = build_base(tiny, dtype="float32")
        materialise(base, "cpu", SEED)
        if patch is not None and takes_model(patch):
            base = patch(base) or base
        run = TinyRun(base, layers, kinds, tiny, tuple(family.dropped(full)))
        model = base if spec.lora is None else adapt(base, _mirrored(spec.lora, run, modules), device="cpu")
    run = replace(run, model=base_of(model))
    _freeze_alike(run, modules)
    return run


def gradient_reach(run: TinyRun, spec: RunSpec, family: Family, modules: ModuleTable) -> Reach:
    """One step of the tiny run under the run's own checkpointing settings.

    `lora_B` starts at zero and gets the first gradient; `lora_A` gets none in that step, so an adapter
    counts as reached when any of its tensors has a gradient that is not all zero.
    """
    assert family.sample_row is not None, "a tiny run has a sample row"
    training = spec.training
    prepare_for_training(run.model, checkpointing=training.gradient_checkpointing, reentrant=training.reentrant)
    with seeded(SEED):
        loss = run.model(**family.sample_row(run.config, frozenset(spec.data.modalities))).loss
        if loss.requires_grad:
            loss.backward()
    tiny = dict(run.model.named_modules())
    reached: list[ModuleRow] = []
    unreached: list[ModuleRow] = []
    dropped: list[ModuleRow] = []
    for row in modules.rows:
        if row.trainable and (row.adapter_parameters or row.saved):
            if any(row.name == path or row.name.startswith(path + ".") for path in run.dropped):
                dropped.append(row)
            else:
                (reached if _has_gradient(tiny[run.tiny_name(row.name)]) else unreached).append(row)
    probed = {run.tiny_name(row.name) for row in (*reached, *unreached)}
    run.model.zero_grad(set_to_none=True)
    return Reach(tuple(reached), tuple(unreached), tuple(dropped), len(probed), float(loss.detach()))


def cache_gap(run: TinyRun, family: Family) -> tuple[float, int]:
    """Largest change of a logit when the cache is off, and how many logits were compared."""
    assert family.sample_row is not None, "a tiny run has a sample row"
    row = family.sample_row(run.config, frozenset({"text"}))
    training = run.model.training
    run.model.eval()
    with torch.no_grad():
        cached, uncached = (run.model(**row, use_cache=use).logits for use in (True, False))
    run.model.train(training)
    return float((cached - uncached).abs().max()), cached.numel()


def _representatives(path: str, kinds: Sequence[Hashable], trained: Sequence[str]) -> tuple[int, ...]:
    """One layer of each kind, two where all are alike; layers that the run trains come first."""
    pattern = re.compile(rf"{re.escape(path)}\.(\d+)\.")
    with_adapters = {int(match[1]) for name in trained if (match := pattern.match(name))}
    ranked = sorted(range(len(kinds)), key=lambda index: (index not in with_adapters, index))
    if len(set(kinds)) == 1:
        return tuple(sorted(ranked[:2]))
    return tuple(next(index for index in ranked if kinds[index] == kind) for kind in dict.fromkeys(kinds))


def _mirrored(lora: Lora, run: TinyRun, modules: ModuleTable) -> Lora:
    """The run's LoRA settings, aimed at the tiny counterparts of what the run adapts."""
    adapted = {row.name for row in modules.adapters()}
    entries = lora.target_parameters or ()
    parameters = [name for name, _ in run.model.named_parameters()]
    holders = {name.rpartition(".")[0] for name in parameters if name.endswith(entries)} if entries else set()
    names = [n for n, _ in run.model.named_modules() if run.full_name(n) in adapted and n not in holders]
    return replace(
        lora,
        r=min(lora.r, 4),
        target_modules="|".join(map(re.escape, names)) or None,
        exclude_modules=None,
        target_parameters=tuple(entry for entry in entries if any(name.endswith(entry) for name in parameters)) or None,
        layers_to_transform=None,
        layers_pattern=None,
        rank_pattern={},
        alpha_pattern={},
    )


def _freeze_alike(run: TinyRun, modules: ModuleTable) -> None:
    """Freeze the counterparts of adapters that the run itself froze."""
    trainable = {row.name: row.trainable for row in modules.adapters()}
    for name, module in run.model.named_modules():
        if trainable.get(run.full_name(name)) is False:
            module.requires_grad_(False)


def _has_gradient(module: nn.Module) -> bool:
    return any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters() if p.requires_grad)
