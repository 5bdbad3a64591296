"""Forward and backward of one micro-batch on meta, every storage followed."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from vlcheck.memory.attention import HOPPER, Arch
from vlcheck.memory.batch import make_batch
from vlcheck.memory.blocks import Blocks
from vlcheck.memory.compiled_layers import CompiledLayer, Compiler, compiled, in_checkpoint
from vlcheck.memory.cuda_operations import META
from vlcheck.memory.expansion import expand
from vlcheck.memory.head import chunked_loss
from vlcheck.memory.layers import Likeness, find_likeness, layers_of
from vlcheck.memory.mixed import CudaFunctions, autocast_flag
from vlcheck.memory.shape import Shape
from vlcheck.memory.simulate import FollowStorages, Way
from vlcheck.memory.tape import Tape
from vlcheck.memory.weights import settle
from vlcheck.model.build import base_of
from vlcheck.model.family import Family, Values
from vlcheck.processing.collator import Batch
from vlcheck.training.settings import StepSettings
from vlcheck.training.step import forward_loss, trainable

LOW = {"bf16": torch.bfloat16, "fp16": torch.float16, None: None}
"""Type that autocast lowers to."""


@dataclass(frozen=True)
class StepModel:
    """A model that steps are taken on, and what of it is looked up in every one of them."""

    model: nn.Module
    family: Family
    config: Values
    """The full config of transformers, as a mapping."""
    known: tuple[torch.Tensor, ...]
    """Weights, buffers and quantisation states: what is on the device before a step."""
    parameters: tuple[nn.Parameter, ...]
    """Those that require gradients, in the model's order."""
    checkpointed: tuple[tuple[str, Any], ...]
    """Modules that may be run again in the backward pass."""
    likeness: Likeness
    fused: bool
    """Whether all attention goes through `scaled_dot_product_attention`."""
    ways: dict[int, Way] = field(default_factory=dict)
    """How operations are followed, learnt by one step for the next."""


def step_model(model: nn.Module, family: Family) -> StepModel:
    """Look up what every step of a model needs.

    Args:
        model: on meta, its 4-bit weights packed, prepared for training.
    """
    settle(model)
    base: Any = base_of(model)
    config = base.config.to_dict()
    kinds = family.layer_kinds(config) if family.layer_kinds else {}
    return StepModel(
        model=model,
        family=family,
        config=config,
        known=(*model.parameters(), *model.buffers(), *_states(model)),
        parameters=tuple(trainable(model)),
        checkpointed=tuple((n, m) for n, m in base.named_modules() if hasattr(m, "gradient_checkpointing")),
        likeness=find_likeness(base, kinds),
        fused=all(_attention_of(module) == "sdpa" for module in base.modules()),
    )


def _attention_of(module: Any) -> str:
    return getattr(vars(module).get("config"), "_attn_implementation", None) or "sdpa"


class MicroStep:
    """One micro-batch forward and backward on meta, every storage of it written to a tape.

    `whole` runs every layer, where otherwise one stands for those that are like it. `cloned` is DDP's
    `find_unused_parameters`: it clones what the model returns. With a `compiler`,
    layers run by the graphs that it makes.
    """

    def __init__(self, step_model: StepModel, settings: StepSettings, shape: Shape, arch: Arch = HOPPER, *,
                 whole: bool = False, cloned: bool = False, compiler: Compiler | None = None) -> None:  # fmt: skip
        self.compiler = compiler
        self.left_readable: set[str] = set()
        """Kinds of layers that run as they are written although the run compiles them."""
        self.compiled: dict[str, CompiledLayer] = {}
        self.step_model, self.settings, self.shape, self.cloned = step_model, settings, shape, cloned
        self.blocks = Blocks()
        low = LOW[settings.precision]
        self.functions = CudaFunctions(arch, self.blocks, low, gathers=step_model.fused)
        self.storages = FollowStorages(self.blocks, step_model.ways)
        self.layers = layers_of(step_model.likeness, self.blocks, whole=whole)

    def run(self) -> tuple[Tape, list[int]]:
        """The tape, and the blocks of the gradients in the order in which they came."""
        parameters = self.step_model.parameters
        with self._followed() as batch:
            self.blocks.tape.mark("forward")
            with self._casting():
                loss = self._loss(batch, supervised_only=self.settings.supervised_only)
            self.blocks.tape.mark("backward of the loss")
            self.storages.phase = "backward"
            loss.backward()  # type: ignore[no-untyped-call]
        gradients = [self.blocks.block_of(p.grad) for p in parameters if p.grad is not None]
        self.blocks.close()
        for parameter in parameters:
            parameter.grad = None
        tape, made = expand(self.layers)
        return tape, sorted(block for old in gradients if old is not None for block in made[old])

    def evaluate(self) -> Tape:
        """The tape of an evaluation's forward pass: no gradients, no dropout, nothing kept for a backward pass."""
        model = self.step_model.model
        training = [module for module in model.modules() if module.training]
        model.eval()
        try:
            with self._followed() as batch, torch.no_grad(), self._casting():
                self._loss(batch, supervised_only=self.settings.eval_supervised_only)
        finally:
            for module in training:
                module.training = True
        self.blocks.close()
        return expand(self.layers)[0]

    def _loss(self, batch: Batch, *, supervised_only: bool) -> torch.Tensor:
        if self.settings.logits == "chunked":
            return chunked_loss(self.step_model.model, batch, self.functions.low, self.blocks)
        return forward_loss(self.step_model.model, batch, supervised_only=supervised_only)

    @contextlib.contextmanager
    def _followed(self) -> Iterator[Batch]:
        """A batch on the device, and every storage followed from there on."""
        base: Any = base_of(self.step_model.model)
        self.storages.vocabulary = int(base.config.get_text_config().vocab_size)
        self.blocks.know(self.step_model.known)
        batch = make_batch(self.step_model.family, self.step_model.config, self.shape, pixels=META)
        with contextlib.ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            stack.enter_context(autocast_flag(self.functions.low))
            stack.enter_context(_autocast_on_meta(self.functions))
            stack.enter_context(_silent("bitsandbytes"))  # LLM.int8 tells of the casts of every product
            for hook in self._watch():
                stack.callback(hook.remove)
            if self.compiler is not None:
                around = compiled(base, self.compiler, self.functions, self.storages, self.left_readable)
                self.compiled = stack.enter_context(around)
            stack.enter_context(self._recomputation())
            stack.enter_context(self.layers.watched())
            stack.enter_context(META)
            stack.enter_context(self.storages)
            stack.enter_context(self.functions)
            for tensor in batch.values():
                self.blocks.hold(tensor, "input batch")
            yield batch

    @contextlib.contextmanager
    def _casting(self) -> Iterator[None]:
        self.functions.casting = True
        try:
            yield
        finally:
            self.functions.casting = False
            self.functions.forget()

    def _watch(self) -> Iterator[Any]:
        """Say which part runs, and mark where each layer's backward pass begins."""
        for path, part in self.step_model.family.parts.items():
            try:
                module = base_of(self.step_model.model).get_submodule(path)
            except AttributeError:
                continue
            yield module.register_forward_pre_hook(self._now(part.value))
            yield module.register_forward_hook(self._now("between the parts"), always_call=True)

        head = base_of(self.step_model.model).get_output_embeddings()  # type: ignore[operator]
        yield head.register_forward_pre_hook(self._at_head)
        if self.cloned:
            yield self.step_model.model.register_forward_hook(_cloned)

    def _at_head(self, *_: Any) -> None:
        self.storages.at_head = True

    def _now(self, part: str) -> Callable[..., None]:
        def hook(module: nn.Module, *_: Any) -> None:
            if self.storages.phase == "forward":
                self.storages.part = part
                self.blocks.tape.mark(f"forward, {part}")

        return hook

    @contextlib.contextmanager
    def _recomputation(self) -> Iterator[None]:
        """Know when a checkpointed block runs again: autocast is in force there."""
        touched: list[tuple[Any, Any]] = []
        for name, module in self.step_model.checkpointed:
            original = getattr(module, "_gradient_checkpointing_func", None)
            if original is not None:
                touched.append((module, original))
                module._gradient_checkpointing_func = self._checkpointed(name, original)
        try:
            yield
        finally:
            for module, original in touched:
                module._gradient_checkpointing_func = original

    def _checkpointed(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def checkpoint(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            function = in_checkpoint(self.compiled.get(name), function)

            def run(*inner: Any, **more: Any) -> Any:
                if self.storages.phase != "backward":
                    return function(*inner, **more)
                self.storages.phase, self.storages.at_head = "recompute", False
                try:
                    with self.functions, self._casting():  # torch leaves function modes for the backward pass
                        return function(*inner, **more)
                finally:
                    self.storages.phase = "backward"

            return original(run, *args, **kwargs)

        return checkpoint


def _cloned(module: nn.Module, args: Any, output: Any) -> Any:
    return tree_map_only(torch.Tensor, lambda each: each if each.grad_fn is None else each.clone(), output)


def _states(model: nn.Module) -> Iterator[torch.Tensor]:
    """Tensors of quantisation states, which no module lists."""
    for module in model.modules():
        if (scales := getattr(vars(module).get("state"), "SCB", None)) is not None:
            yield scales
        state = getattr(module._parameters.get("weight"), "quant_state", None)
        if state is not None:
            yield from (state.absmax, state.code)
            if state.state2 is not None:
                yield from (state.offset, state.state2.absmax, state.state2.code)


@contextlib.contextmanager
def _silent(package: str) -> Iterator[None]:
    """Let a package log errors alone."""
    logger = logging.getLogger(package)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def _autocast_on_meta(functions: CudaFunctions) -> Iterator[None]:
    """Let a library switch casts off for what it does on meta, for which torch has no autocast (PEFT, ParamWrapper)."""
    original: Any = torch.autocast

    @contextlib.contextmanager
    def switched(enabled: bool) -> Iterator[None]:
        before, functions.casting = functions.casting, functions.casting and enabled
        try:
            yield
        finally:
            functions.casting = before

    def autocast(device_type: str, *args: Any, enabled: bool = True, **kwargs: Any) -> Any:
        return switched(enabled) if device_type == "meta" else original(device_type, *args, enabled=enabled, **kwargs)

    torch.autocast = autocast  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        torch.autocast = original  # type: ignore[misc]
