"""One optimizer step, as the trainer takes it: micro-batches forward and backward, clip, step.

The same code runs on a GPU, where it is measured, and on meta, where its storages are followed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from vlcheck.model.build import base_of
from vlcheck.model.training_mode import prepare_for_training
from vlcheck.processing.collator import Batch
from vlcheck.processing.labels import IGNORE_INDEX
from vlcheck.training.settings import StepSettings

Autocast = Callable[[], AbstractContextManager[Any]]


def prepare(model: nn.Module, settings: StepSettings) -> None:
    """Bring a built model into the state in which it trains, in place."""
    base: Any = base_of(model)
    asked = settings.attention
    own = {"eager", "sdpa"}  # flash attention and its like are packages of the training machine
    if isinstance(asked, tuple):
        base.set_attn_implementation({part: kind for part, kind in asked if kind in own})
    elif asked in own:
        base.set_attn_implementation(asked)
    if settings.kbit_preparation:
        upcast(model)
    prepare_for_training(model, checkpointing=settings.checkpointing, reentrant=settings.reentrant)


def switch_checkpointing(model: nn.Module, settings: StepSettings) -> None:
    """Switch checkpointing of a prepared model on or off, as other settings ask."""
    base: Any = base_of(model)
    if settings.checkpointing:
        prepare_for_training(model, checkpointing=settings.checkpointing, reentrant=settings.reentrant)
    else:
        base.gradient_checkpointing_disable()


def upcast(model: nn.Module) -> None:
    """What peft's `prepare_model_for_kbit_training` does: every 16-bit tensor that is not packed becomes fp32."""
    for parameter in model.parameters():
        if parameter.dtype in (torch.bfloat16, torch.float16) and type(parameter).__name__ != "Params4bit":
            parameter.data = parameter.data.to(torch.float32)


def autocast(precision: str | None, device: str) -> AbstractContextManager[Any]:
    """Mixed precision on a kind of device (`cuda`, `cpu`): `bf16`, `fp16`, or a context that changes nothing."""
    if precision is None:
        return nullcontext()
    return torch.autocast(device, torch.bfloat16 if precision == "bf16" else torch.float16)


def forward_loss(model: nn.Module, batch: Batch, *, supervised_only: bool) -> torch.Tensor:
    """The loss of one micro-batch, with logits at every position or only where a label needs one."""
    if not supervised_only:
        loss: torch.Tensor = model(**batch).loss
        return loss
    inputs, labels = dict(batch), batch["labels"][:, 1:]
    del inputs["labels"]
    rows, columns = (labels != IGNORE_INDEX).nonzero(as_tuple=True)
    with _logits_at(model, rows, columns):
        logits = model(**inputs).logits
    return nn.functional.cross_entropy(logits.float().flatten(0, 1), labels[rows, columns])


@contextmanager
def _logits_at(model: Any, rows: torch.Tensor, columns: torch.Tensor) -> Iterator[None]:
    """Let the head see these positions alone, as one row: its logits are of shape (1, positions, words).

    transformers' `logits_to_keep` takes the same columns of every row: where answers begin at different places, each
    row would get the logits of all of them.
    """
    head = base_of(getattr(model, "module", model)).get_output_embeddings()  # type: ignore[operator]
    hook = head.register_forward_pre_hook(lambda _, given: (given[0][rows, columns][None], *given[1:]))
    try:
        yield
    finally:
        hook.remove()


def micro_step(
    model: nn.Module, batch: Batch, *, supervised_only: bool, context: Autocast, share: float = 1.0
) -> torch.Tensor:
    """Forward and backward of one micro-batch; gradients are added to those that are there.

    Args:
        supervised_only: compute logits only where a label needs one.
        context: makes the context of the forward pass, as `autocast` does.
        share: what the loss is multiplied by before the backward pass.

    Returns:
        The mean loss of the micro-batch, a scalar without a graph, not multiplied.
    """
    with context():
        loss = forward_loss(model, batch, supervised_only=supervised_only)
    (loss * share).backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Parameters that require gradients, in the model's order: what the optimizer holds."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def make_optimizer(parameters: list[nn.Parameter], settings: StepSettings) -> torch.optim.Optimizer:
    """The optimizer that the settings name, over one group of parameters."""
    import bitsandbytes
    from transformers.optimization import Adafactor

    kind = settings.optimizer
    common: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    adam = common | {"betas": settings.betas, "eps": settings.epsilon}
    if kind in ("adamw_torch", "adamw_torch_fused"):
        return torch.optim.AdamW(parameters, fused=kind.endswith("fused") or None, **adam)
    if kind == "adafactor":
        made: torch.optim.Optimizer = Adafactor(parameters, scale_parameter=False, relative_step=False, **common)
        return made
    if kind == "sgd":
        return torch.optim.SGD(parameters, **common)
    bits, paged = 32 if kind.endswith("32bit") else 8, kind.startswith("paged")
    packed: torch.optim.Optimizer = bitsandbytes.optim.AdamW(parameters, optim_bits=bits, is_paged=paged, **adam)
    return packed


def finish(parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer, max_grad_norm: float) -> None:
    """Clip, step, forget the gradients.

    Args:
        max_grad_norm: norm of all gradients together that they are scaled down to; 0 leaves them as they are.
    """
    if max_grad_norm:
        nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
