"""Give a model's linear layers the quantised classes of bitsandbytes, by the steps of `from_pretrained`.

Private names of transformers and peft are touched here, each with its reason.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig

from vlcheck.spec import Quantization


def quantise(model: nn.Module, quantization: Quantization | None, *, dtype: str) -> nn.Module:
    """Replace linears by bitsandbytes layers, with the quantiser that `from_pretrained` uses.

    It also sets `is_loaded_in_4bit`, without which PEFT picks its plain `lora.Linear`.

    Args:
        dtype: of the tensors that stay as they are; the new layers' biases get it too.
    """
    if quantization is None:
        return model
    # There is no public route from a model and a config to the quantiser's own steps; seen in 5.17 and 5.23.
    from transformers.quantizers import AutoHfQuantizer

    quantiser = AutoHfQuantizer.from_config(quantization_config(quantization), pre_quantized=False)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        quantiser.preprocess_model(model=model, device_map=None)
    finally:
        torch.set_default_dtype(before)
    quantiser.postprocess_model(model)
    return model


def quantization_config(quantization: Quantization) -> BitsAndBytesConfig:
    """The `BitsAndBytesConfig` of a run; its fields have the section's names."""
    values = dataclasses.asdict(quantization)
    values["llm_int8_skip_modules"] = quantization.llm_int8_skip_modules and list(quantization.llm_int8_skip_modules)
    return BitsAndBytesConfig(**values)


def kept_from_quantising(model: nn.Module, entry: str) -> list[str]:
    """Linear layers that a skip-list entry keeps as they are, by transformers' own matcher."""
    from transformers.quantizers.quantizers_utils import should_convert_module  # not public; seen in 5.17, 5.23

    linears = (name for name, module in model.named_modules() if isinstance(module, nn.Linear))
    return [name for name in linears if not should_convert_module(name, [entry])]


@contextlib.contextmanager
def expanded_on_meta() -> Iterator[None]:
    """Let DoRA take the norms of quantised weights that have no storage: peft 0.21 expands them while it attaches."""
    from peft.tuners.lora import dora

    expand = dora.dequantize_module_weight

    def expanded(module: Any) -> Any:
        packed = type(module.weight).__name__ in ("Params4bit", "Int8Params") and module.weight.is_meta
        return torch.empty(module.out_features, module.in_features, device="meta") if packed else expand(module)

    dora.dequantize_module_weight = expanded
    try:
        yield
    finally:
        dora.dequantize_module_weight = expand
