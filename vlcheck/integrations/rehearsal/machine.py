"""A machine as training scripts expect one, where there is none: a GPU's answers, logins, trackers."""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from collections.abc import Mapping
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from vlcheck.integrations.rehearsal.stage import Stage

GIB = 2**30


def stand_in(stage: Stage) -> None:
    """Answer for the GPU and for whoever asks to log in; each answer is noted when it is given."""
    _on_cpu(stage)
    _seen(stage)
    _OnCpu(stage).__enter__()  # type: ignore[no-untyped-call]
    _products()
    _arguments(stage)
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


class _OnCpu(TorchFunctionMode):
    """`device="cuda"` of whatever makes a tensor is the CPU."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage

    def __torch_function__(self, function: Any, types: Any, given: Any = (), options: Any = None) -> Any:
        options = options or {}
        if _is_gpu(options.get("device")):
            self.stage.replace("device='cuda': the model and its tensors stay on the CPU")
            options = {**options, "device": "cpu"}
        return function(*given, **options)


def _products() -> None:
    """Products of half precision, computed in float32: many CPUs have no instruction for bf16.

    A head over 262,144 words, backward over 300 ids, takes one core with AVX2 30 s in bf16 and 0.2 s in float32.
    """
    names = ("matmul", "mm", "bmm", "addmm")
    owned: list[tuple[Any, str]] = [(functional, "linear"), (torch.Tensor, "__matmul__")]
    for owner, name in (*owned, *((owner, name) for owner in (torch, torch.Tensor) for name in names)):
        setattr(owner, name, _in_float32(getattr(owner, name)))


def _in_float32(whole: Any) -> Any:
    @functools.wraps(whole)
    def product(*given: Any, **options: Any) -> Any:
        return whole(*given, **options) if "out" in options else _product(whole, given, options)

    return product


HALF = (torch.bfloat16, torch.float16)


def _product(function: Any, given: Any, options: Any) -> Any:
    first = next((each for each in given if isinstance(each, torch.Tensor)), None)
    if first is None or first.is_meta or not first.is_floating_point():
        return function(*given, **options)
    wanted = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else first.dtype
    if wanted not in HALF:
        return function(*given, **options)
    with torch.autocast("cpu", enabled=False):
        made = function(*map(_whole, given), **{name: _whole(each) for name, each in options.items()})
    return made.to(wanted)


def _whole(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.dtype in HALF else value


def _seen(stage: Stage) -> None:
    """To the script's own lines one GPU is there; to libraries none is, so that they ask nothing of it."""
    for name, value in {"is_available": True, "device_count": 1, "current_device": 0}.items():
        setattr(torch.cuda, name, _to_script(stage, name, value, getattr(torch.cuda, name)))


def _to_script(stage: Stage, name: str, value: Any, whole: Any) -> Any:
    def answered() -> Any:
        if sys._getframe(1).f_code.co_filename != stage.code_name:
            return whole()
        stage.replace(f"torch.cuda.{name}: answered for a GPU that is not here")
        return value

    return answered


def _default(stage: Stage) -> None:
    whole = torch.set_default_device

    def set_default_device(device: Any) -> None:
        whole("cpu" if _is_gpu(device) else device)

    torch.set_default_device = set_default_device


ELSEWHERE: Mapping[str, Any] = {"tf32": None, "torch_compile": False, "push_to_hub": False, "fsdp": None,
                                "deepspeed": None}  # fmt: skip
"""Arguments of a trainer that need a GPU, several or the Hub, and what stands for them on a CPU."""


def _arguments(stage: Stage) -> None:
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
        for name, value in ELSEWHERE.items():
            if getattr(self, name, None):
                stage.replace(f"{name}={getattr(self, name)!r}: left out, on the CPU and offline")
                setattr(self, name, value)
        self.report_to = "none"
        folder = stage.scratch / "folder"
        if not (folder / (self.output_dir or "")).resolve().is_relative_to(folder):
            stage.replace(f"output_dir={self.output_dir!r}: a folder of the rehearsal")
            self.output_dir = str(folder / "output_dir")
        whole(self)

    transformers.TrainingArguments.__post_init__ = post_init
    _gone(stage)


def _gone(stage: Stage) -> None:
    """Arguments that the installed version does not take end the run, and the rehearsal goes on without them."""

    def new(cls: Any, *given: Any, **options: Any) -> Any:
        if not hasattr(vars(cls)["__init__"], "__wrapped__"):
            cls.__init__ = _without_unknown(stage, cls)
        return object.__new__(cls)

    transformers.TrainingArguments.__new__ = new


def _without_unknown(stage: Stage, cls: Any) -> Any:
    whole = cls.__init__
    known = {each.name for each in dataclasses.fields(cls)}

    @functools.wraps(whole)
    def init(self: Any, *given: Any, **options: Any) -> None:
        if unknown := sorted(options.keys() - known):
            home = cls.__module__.partition(".")[0]
            known_by = f" of trl {version('trl')}" if home == "trl" else f" of transformers {version('transformers')}"
            stage.stops(f"{cls.__name__}{known_by} takes no {', '.join(unknown)}; left out here")
        whole(self, *given, **{name: value for name, value in options.items() if name in known})

    return init


def _logins(stage: Stage) -> None:
    import huggingface_hub

    for name in ("login", "notebook_login", "interpreter_login"):
        setattr(huggingface_hub, name, _skipped(stage, f"huggingface_hub.{name}()"))
    os.environ |= {"WANDB_MODE": "disabled", "WANDB_DISABLED": "true", "WANDB_SILENT": "true"}


def _skipped(stage: Stage, name: str) -> Any:
    def skipped(*given: Any, **options: Any) -> None:
        stage.replace(f"{name}: nobody was logged in")

    return skipped
