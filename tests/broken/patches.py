"""Monkeypatches as users write them, each wrong in one way, and a guard that undoes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import peft
import torch
from peft.tuners import lora
from torch import nn
from transformers.models.gemma4 import modeling_gemma4

WRAPPER = modeling_gemma4.Gemma4ClippableLinear
TEXT_MODEL = modeling_gemma4.Gemma4TextModel


@contextmanager
def undone() -> Iterator[None]:
    """Put back whatever a patch of this file changes."""
    forward, delta, registered = WRAPPER.forward, lora.Linear.get_delta_weight, lora.LoraConfig.__post_init__
    text_forward, attach = TEXT_MODEL.forward, peft.get_peft_model
    try:
        yield
    finally:
        modeling_gemma4.Gemma4ClippableLinear = WRAPPER
        WRAPPER.forward, lora.Linear.get_delta_weight = forward, delta
        lora.LoraConfig.__post_init__ = registered
        TEXT_MODEL.forward, peft.get_peft_model = text_forward, attach


def around() -> None:
    """Make the wrapper a subclass of nn.Linear, so that PEFT takes it: LoRA lands outside its clamps."""

    class ClippedLinear(nn.Linear):
        def __init__(self, config, in_features, out_features):
            super().__init__(in_features, out_features, bias=False)
            self.use_clipped_linears = config.use_clipped_linears
            if self.use_clipped_linears:
                for name, value in zip(("input_min", "input_max", "output_min", "output_max"),
                                       (-torch.inf, torch.inf) * 2, strict=True):  # fmt: skip
                    self.register_buffer(name, torch.tensor(value))

        def forward(self, x):
            if not self.use_clipped_linears:
                return super().forward(x)
            y = super().forward(torch.clamp(x, self.input_min, self.input_max))
            return torch.clamp(y, self.output_min, self.output_max)

    modeling_gemma4.Gemma4ClippableLinear = ClippedLinear


def replaced(model: nn.Module) -> None:
    """Swap every wrapper for its inner linear, so that plain names match."""
    for name, module in list(model.named_modules()):
        if isinstance(module, WRAPPER):
            model.set_submodule(name, module.linear)


def double_merge() -> None:
    """Let merging add the delta twice."""
    single = lora.Linear.get_delta_weight
    lora.Linear.get_delta_weight = lambda self, adapter: 2 * single(self, adapter)


def half_clamped() -> None:
    """Drop the input clamp: the wrapper looks intact."""
    WRAPPER.forward = lambda self, x: torch.clamp(self.linear(x), self.output_min, self.output_max)


def registered() -> None:
    """Register the wrapper for PEFT's plain linear layer, which then misses in_features."""
    before = lora.LoraConfig.__post_init__

    def post_init(self):
        before(self)
        self._register_custom_module({WRAPPER: lora.Linear})

    lora.LoraConfig.__post_init__ = post_init


def half_cast() -> None:
    """Cast the adapters of the vision tower, and forget the others."""
    attach = peft.get_peft_model

    def cast(model, config):
        adapted = attach(model, config)
        for name, parameter in adapted.named_parameters():
            if "lora_" in name and "vision_tower" in name:
                parameter.data = parameter.data.bfloat16()
        return adapted

    peft.get_peft_model = cast


def forgetful() -> None:
    """Compute something else when the cache is off, as an early transformers 5.5 did for shared layers."""
    forward = TEXT_MODEL.forward

    def without_cache(self, *args, use_cache=None, **kwargs):
        output = forward(self, *args, use_cache=use_cache, **kwargs)
        if use_cache is False:
            output.last_hidden_state = output.last_hidden_state.flip(-1)
        return output

    TEXT_MODEL.forward = without_cache


def failing() -> None:
    """Raise, as user code may."""
    raise RuntimeError("no such attribute in this version")
