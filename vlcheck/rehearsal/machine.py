"""A machine as training scripts expect one, where there is none: a GPU's answers, logins, trackers."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from torch import nn

from vlcheck.rehearsal.stage import Stage

GIB = 2**30


def stand_in(stage: Stage) -> None:
    """Answer for the GPU and for whoever asks to log in; each answer is noted when it is given."""
    _on_cpu(stage)
    _bf16(stage)
    _logins(stage)


def _on_cpu(stage: Stage) -> None:
    def stays(self: Any, *given: Any, **options: Any) -> Any:
        stage.replace(".cuda(): the model and its tensors stay on the CPU")
        return self

    owners: tuple[Any, ...] = (nn.Module, torch.Tensor)
    for owner in owners:
        owner.cuda = stays
        _moved(stage, owner)
    _default(stage)
    facts: dict[str, Any] = {
        "is_bf16_supported": True, "get_device_capability": (8, 9), "get_device_name": "the GPU of a rehearsal",
        "get_device_properties": SimpleNamespace(name="a rehearsal's", total_memory=24 * GIB, major=8, minor=9),
        "set_device": None, "reset_peak_memory_stats": None, "mem_get_info": (24 * GIB, 24 * GIB), "synchronize": None,
        "max_memory_allocated": 0, "max_memory_reserved": 0, "memory_allocated": 0, "memory_reserved": 0,
        "empty_cache": None, "manual_seed": None, "manual_seed_all": None,
    }  # fmt: skip
    for name, value in facts.items():
        setattr(torch.cuda, name, _answer(stage, name, value))


def _answer(stage: Stage, name: str, value: Any) -> Any:
    def answered(*given: Any, **options: Any) -> Any:
        if value is not None:
            stage.replace(f"torch.cuda.{name}: answered for a GPU that is not here")
        return value

    return answered


def _moved(stage: Stage, owner: Any) -> None:
    """`.to` with a GPU as its device moves nothing there."""
    whole = owner.to

    def to(self: Any, *given: Any, **options: Any) -> Any:
        if any(_is_gpu(each) for each in (*given, *options.values())):
            stage.replace(".to('cuda'): the model and its tensors stay on the CPU")
            given = tuple("cpu" if _is_gpu(each) else each for each in given)
            options = {name: "cpu" if _is_gpu(each) else each for name, each in options.items()}
        return whole(self, *given, **options)

    owner.to = to


def _is_gpu(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return True
    return str(value).startswith("cuda") if isinstance(value, str | torch.device) else False


def _default(stage: Stage) -> None:
    whole = torch.set_default_device

    def set_default_device(device: Any) -> None:
        whole("cpu" if _is_gpu(device) else device)

    torch.set_default_device = set_default_device


def _bf16(stage: Stage) -> None:
    """Arguments with `bf16: true` are refused on a machine without a GPU; the step is computed on the CPU in bf16."""
    from transformers import training_args, utils

    training_args.is_torch_bf16_gpu_available = lambda: True
    utils.is_torch_bf16_gpu_available = lambda: True
    whole = transformers.TrainingArguments.__post_init__

    def post_init(self: Any) -> None:
        stage.mark("training")
        if self.fp16:
            stage.replace("fp16: computed in bf16, which a CPU has")
            self.fp16, self.bf16 = False, True
        self.report_to = "none"
        whole(self)

    transformers.TrainingArguments.__post_init__ = post_init


def _logins(stage: Stage) -> None:
    import huggingface_hub

    for name in ("login", "notebook_login", "interpreter_login"):
        setattr(huggingface_hub, name, _skipped(stage, f"huggingface_hub.{name}()"))
    os.environ |= {"WANDB_MODE": "disabled", "WANDB_DISABLED": "true", "WANDB_SILENT": "true"}


def _skipped(stage: Stage, name: str) -> Any:
    def skipped(*given: Any, **options: Any) -> None:
        stage.replace(f"{name}: nobody was logged in")

    return skipped
