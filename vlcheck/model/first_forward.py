"""One forward pass of a live model on a real batch, up to its head: what a gradient could reach, what is refused.

Nothing of the run is changed: random states, modes of modules, buffers and gradients are as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vlcheck.finding import Unavailable
from vlcheck.model.build import base_of
from vlcheck.model.modules import ModuleRow, ModuleTable
from vlcheck.model.tiny_run import Reach


@dataclass(frozen=True)
class FirstForward:
    """What a forward pass of the live model showed."""

    error: str
    """What the model has against the batch; empty if it takes it."""
    awake: frozenset[str]
    """Paths of trained modules that computed something from which a gradient can come back to them."""
    called: frozenset[str]
    """Paths of trained modules that were called."""
    reentrant: int
    """Blocks that are checkpointed reentrantly."""
    asleep: int
    """Of these, blocks whose input needs no gradient."""


class _HeadReached(Exception):
    """All that is looked at has run."""


def first_forward(
    model: nn.Module,
    batch: Mapping[str, Any],
    modules: ModuleTable,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> FirstForward:
    """Run the model on one batch in training mode, and stop in front of its head.

    Args:
        model: as the run trains it, with or without PEFT around it; its parameters are whole on this device.
        batch: keyword arguments of its forward; tensors go to the model's device.
        modules: what of the model is trained.
        autocast: the precision that the run computes in.

    Raises:
        Unavailable: if parameters are sharded or on meta, or the device has no memory left.
    """
    if reason := _not_whole(model):
        raise Unavailable(reason, "judge the gradients after the first step")
    base: Any = base_of(model)
    trained = {row.name: base.get_submodule(row.name) for row in modules.rows if row.trainable}
    watch = _Watch()
    device = next(base.parameters()).device
    moved = {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
    error = ""
    with ExitStack() as stack:
        stack.enter_context(_training(base))
        stack.enter_context(_buffers_kept(base))
        stack.enter_context(watch.hooked(base, trained))
        stack.enter_context(autocast())
        stack.enter_context(torch.enable_grad())
        try:
            base(**moved)
        except _HeadReached:
            pass
        except torch.OutOfMemoryError as full:
            raise Unavailable("the device has no memory for a forward pass before the first step") from full
        except Exception as refusal:  # a model's forward raises whatever it likes
            error = f"{type(refusal).__name__}: {' '.join(str(refusal).split())[:300]}"
    return FirstForward(error, frozenset(watch.awake), frozenset(watch.called), watch.reentrant, watch.asleep)


def reach_of(seen: FirstForward, modules: ModuleTable, dropped: Sequence[str]) -> Reach:
    """Which trained modules of a live model a gradient can reach; there is no loss, so it is NaN.

    Args:
        dropped: paths whose output the model drops as its config says.
    """
    rows: tuple[list[ModuleRow], ...] = ([], [], [])
    for row in modules.rows:
        if row.trainable and (row.adapter_parameters or row.saved):
            idle = any(row.name == path or row.name.startswith(path + ".") for path in dropped)
            rows[2 if idle else 0 if row.name in seen.awake else 1].append(row)
    reached, unreached, left = map(tuple, rows)
    return Reach(reached, unreached, left, len(seen.called), float("nan"), "modules called in a forward pass")


class _Watch:
    """Hooks on a model, and what they saw."""

    def __init__(self) -> None:
        self.awake: set[str] = set()
        self.called: set[str] = set()
        self.reentrant = self.asleep = 0
        self._around: list[bool] = []  # of each reentrant block that is running: its input needs gradients

    @contextmanager
    def hooked(self, base: Any, trained: Mapping[str, nn.Module]) -> Iterator[None]:
        handles = []
        for module in base.modules():
            if _is_reentrant(module):
                self.reentrant += 1
                handles.append(module.register_forward_pre_hook(self._enter))
                handles.append(module.register_forward_hook(self._leave, always_call=True))
        for name, module in trained.items():
            handles.append(module.register_forward_hook(self._look(name)))
        if (head := base.get_output_embeddings()) is not None:
            handles.append(head.register_forward_pre_hook(_stop, prepend=True))
            for name, module in trained.items():
                if module is head:  # it runs last, on what the language model computed
                    self.awake.add(name)
                    self.called.add(name)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, positional: tuple[Any, ...]) -> None:
        """Keyword arguments do not count: reentrant checkpointing does not look at them."""
        awake = any(isinstance(each, torch.Tensor) and each.requires_grad for each in positional)
        self._around.append(awake)
        self.asleep += not awake

    def _leave(self, module: nn.Module, positional: Any, output: Any) -> None:
        self._around.pop()

    def _look(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, positional: Any, output: Any) -> None:
            self.called.add(name)
            if torch.is_grad_enabled() and (not self._around or all(self._around)):
                kept = any(each.requires_grad for each in _tensors(output))
            else:  # inside a reentrant block nothing is recorded until it runs again
                kept = bool(self._around) and all(self._around)
            if kept:
                self.awake.add(name)

        return hook


def _stop(module: nn.Module, positional: Any) -> None:
    raise _HeadReached


def _is_reentrant(module: Any) -> bool:
    if not getattr(module, "gradient_checkpointing", False) or list(module.children()) == []:
        return False
    function = getattr(module, "_gradient_checkpointing_func", None)
    return getattr(function, "keywords", {}).get("use_reentrant") is True and _is_block(module)


def _is_block(module: nn.Module) -> bool:
    """Whether its own forward is what is checkpointed, rather than that of its layers."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return isinstance(module, GradientCheckpointingLayer)


def _tensors(output: Any) -> Iterator[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, Mapping):
        yield from (each for each in output.values() if isinstance(each, torch.Tensor))
    elif isinstance(output, tuple | list):
        yield from (each for each in output if isinstance(each, torch.Tensor))


@contextmanager
def _training(model: nn.Module) -> Iterator[None]:
    """Checkpointing works in training mode alone; each module gets its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = True
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _buffers_kept(model: nn.Module) -> Iterator[None]:
    """Running statistics, and tables that grow with a row, as they were."""
    before = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False)
    ]
    try:
        yield
    finally:
        for module, name, buffer, value in before:
            if not torch.equal(buffer, value):
                buffer.copy_(value)
            if getattr(module, name) is not buffer:
                setattr(module, name, buffer)


def _not_whole(model: nn.Module) -> str:
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            return f"{name} has no storage"
        if hasattr(parameter, "ds_id") or type(parameter).__name__ == "DTensor" or "FlatParameter" in name:
            return f"{name} is sharded over several processes"
    return ""
