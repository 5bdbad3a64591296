"""Give a model on meta real tensors with random values, never more than one layer of them unquantised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from vlcheck.model.uncompiled import bitsandbytes


@contextmanager
def seeded(seed: int, device: str = "cpu") -> Iterator[None]:
    """Draw from this seed for a while; the global random state is left as it was.

    `torch.manual_seed` also queues a call with the whole stack for each kind of accelerator that is not there, which
    takes longer than what is drawn here (torch 2.13).
    """
    cuda = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        for each in cuda:
            with torch.cuda.device(each):
                torch.cuda.manual_seed(seed)
        yield


def materialise(model: Any, device: str, seed: int) -> None:
    """Draw every weight on the device, in place.

    Quantised layers are drawn one at a time and packed at once, so that the peak is the finished model
    plus one layer. All other tensors are initialised by the model's own `_init_weights`, but for
    parameters that it leaves all zero (Gemma 3's projector, Mllama's gates): those are drawn too, because
    zeros stop gradients that trained values pass. Tied weights stay tied. The global random state is left
    as it was.

    Args:
        model: a transformers model on meta, quantised or not, its weights tied.
    """
    std = float(getattr(model.config.get_text_config(), "initializer_range", None) or 0.02)
    with torch.no_grad(), seeded(seed, device):
        drawn: dict[nn.Parameter, nn.Parameter] = {}  # holds the old ones too: tied weights are one of them
        for module in model.modules():
            module._is_hf_initialized = False  # set while it was built on meta, where nothing is drawn
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    if parameter not in drawn:
                        drawn[parameter] = _drawn(parameter, device, std)
                    module._parameters[name] = drawn[parameter]
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = torch.zeros_like(buffer, device=device)
            if isinstance(module, bitsandbytes.nn.Linear4bit | bitsandbytes.nn.Linear8bitLt):
                module._is_hf_initialized = True
        model.initialize_weights()
        for parameter in drawn.values():
            if parameter.is_floating_point() and not parameter.any():
                parameter.normal_(std=std)


def _drawn(parameter: nn.Parameter, device: str, std: float) -> nn.Parameter:
    """Packed random weights for a quantised layer; zeros, to be initialised, for anything else."""
    if not isinstance(parameter, bitsandbytes.nn.Params4bit | bitsandbytes.nn.Int8Params):
        return nn.Parameter(torch.zeros_like(parameter, device=device), requires_grad=parameter.requires_grad)
    dtype = parameter.dtype if parameter.is_floating_point() else torch.bfloat16
    values = torch.empty(parameter.shape, dtype=dtype, device=device).normal_(std=std)
    if isinstance(parameter, bitsandbytes.nn.Int8Params):
        values = values.cpu()  # only on the way from there is it packed (bitsandbytes 0.50, `Int8Params.to`)
    settings = {key: value for key, value in vars(parameter).items() if key != "SCB"}
    packed: Any = type(parameter)(values, requires_grad=False, **settings).to(device)
    packed._is_hf_initialized = True  # some parents initialise their children's weights
    return packed  # type: ignore[no-any-return]
