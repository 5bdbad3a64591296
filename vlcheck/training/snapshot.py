"""The state of a run at an optimizer step's end, copied to host memory, from which a checkpoint is written.

Two copies are held. While one is being made the other stays whole, so that at any moment, whatever the GPU is
doing, the newest finished step can be written by another thread.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn

from vlcheck.training.checkpoint import Checkpoint, Content

ADAPTER, OPTIMIZER, RNG, STATE = "adapter_model.safetensors", "optimizer.safetensors", "rng.safetensors", "state.json"


class StateMismatch(Exception):
    """A checkpoint does not fit the model that it is loaded into."""


@dataclass(frozen=True)
class State:
    """What changes while a run trains, as live objects."""

    adapter: Mapping[str, torch.Tensor]
    """Live tensors by the names under which PEFT saves them."""
    parameters: Sequence[nn.Parameter]
    optimizer: torch.optim.Optimizer
    schedule: Any
    config: str
    """PEFT's adapter_config.json."""


@dataclass
class Snapshot:
    """A finished step in host memory."""

    step: int = -1
    files: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    config: str = ""

    @property
    def content(self) -> Content:
        """The files of a checkpoint."""
        texts = {STATE: json.dumps(self.state), "adapter_config.json": self.config}
        return Content(self.files, texts)


class Snapshots:
    """The newest finished step, always whole."""

    def __init__(self) -> None:
        self._pair = (Snapshot(), Snapshot())
        self._lock = threading.Lock()
        self._newest = 0
        self._frozen = False

    def capture(
        self,
        step: int,
        state: State,
        ranks: Sequence[Mapping[str, Any]],
        held: Mapping[str, dict[str, torch.Tensor]],
        **facts: Any,
    ) -> None:
        """Copy the state of a step that has just ended.

        Args:
            ranks: `rng_state()` of every process.
            held: tensors by file that are in host memory already, and that nothing writes to.
            facts: JSON values to keep with it.
        """
        target = self._pair[1 - self._newest]
        tensors, scalars = optimizer_state(state.optimizer, state.parameters)
        random_states = {f"{rank}.{name}": t for rank, told in enumerate(ranks) for name, t in told["tensors"].items()}
        live = {ADAPTER: state.adapter, OPTIMIZER: tensors, RNG: random_states}
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # paged state is read by the CPU
        target.files = {name: _copied(named, target.files.get(name, {})) for name, named in live.items()} | dict(held)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        target.state = {
            "step": step,
            "optimizer": scalars,
            "schedule": state.schedule.state_dict(),
            "rng": [told["plain"] for told in ranks],
            **facts,
        }
        target.step, target.config = step, state.config
        with self._lock:
            self._newest = 1 - self._newest
            frozen = self._frozen
        if frozen:
            threading.Event().wait()  # the process is about to end; what is being written must not change

    @property
    def newest(self) -> Snapshot:
        """The newest finished step."""
        with self._lock:
            return self._pair[self._newest]

    def freeze(self) -> Snapshot:
        """The newest finished step, which from now on stays as it is.

        The copy that is being made meanwhile goes into the other place, and after it no further one is begun.
        """
        with self._lock:
            self._frozen = True
            return self._pair[self._newest]


def restore(checkpoint: Checkpoint, state: State, rank: int, processes: int) -> dict[str, Any]:
    """Put a checkpoint's state into a run that has just been built; returns what else it holds.

    Random states are those of as many processes as wrote it; any other number draws its dropout anew.

    Raises:
        StateMismatch: if it holds other tensors than the run, or something else than a run's state.
    """
    try:
        return _restored(checkpoint, state, rank, processes)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, RecursionError, OSError) as odd:
        raise StateMismatch(f"{checkpoint.folder} is no state of a run: {type(odd).__name__}: {odd}") from odd
    except SafetensorError as odd:
        raise StateMismatch(f"{checkpoint.folder} is no state of a run: {odd}") from odd


def _restored(checkpoint: Checkpoint, state: State, rank: int, processes: int) -> dict[str, Any]:
    saved: dict[str, Any] = json.loads(checkpoint.text(STATE))
    load_adapter(state.adapter, checkpoint.tensors(ADAPTER), str(checkpoint.folder))
    load_optimizer(state.optimizer, state.parameters, checkpoint.tensors(OPTIMIZER), saved["optimizer"])
    state.schedule.load_state_dict(saved["schedule"])
    for group, rate in zip(state.optimizer.param_groups, state.schedule.get_last_lr(), strict=True):
        group["lr"] = rate
    tensors = {
        name.removeprefix(f"{rank}."): tensor
        for name, tensor in checkpoint.tensors(RNG).items()
        if name.startswith(f"{rank}.")
    }
    if len(saved["rng"]) == processes:
        set_rng_state({"tensors": tensors, "plain": saved["rng"][rank]})
    return saved


def load_adapter(live: Mapping[str, torch.Tensor], saved: Mapping[str, torch.Tensor], origin: str) -> None:
    """Copy saved adapter weights into a model's; every one on both sides must have its counterpart.

    Raises:
        StateMismatch: otherwise.
    """
    missing, surplus = sorted(live.keys() - saved.keys()), sorted(saved.keys() - live.keys())
    other = sorted(name for name in live.keys() & saved.keys() if live[name].shape != saved[name].shape)
    told = [
        f"{len(names)} {what}, {names[0]} first"
        for what, names in (("missing", missing), ("unknown", surplus), ("of another shape", other))
        if names
    ]
    if told:
        raise StateMismatch(f"{origin}: its adapter does not fit this model: {'; '.join(told)}")
    with torch.no_grad():
        for name, tensor in live.items():
            tensor.copy_(saved[name])


def optimizer_state(
    optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """An optimizer's state: tensors and plain values, named by the parameter's number and the state's name."""
    tensors: dict[str, torch.Tensor] = {}
    scalars: dict[str, Any] = {}
    for number, parameter in enumerate(parameters):
        for name, value in optimizer.state.get(parameter, {}).items():
            (tensors if isinstance(value, torch.Tensor) else scalars)[f"{number}.{name}"] = value
    return tensors, scalars


def load_optimizer(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    tensors: Mapping[str, torch.Tensor],
    scalars: Mapping[str, Any],
) -> None:
    """Give an optimizer the state that `optimizer_state` told, and page again what was paged."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in (*tensors.items(), *scalars.items()):
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    if getattr(optimizer, "is_paged", False):
        page_again(optimizer, parameters)


def page_again(optimizer: Any, parameters: Sequence[nn.Parameter]) -> None:
    """Move moments back to managed memory: bitsandbytes' `load_state_dict` (0.50) leaves them in ordinary memory,
    where a resumed run needs more of the card than the run before it.
    """
    for parameter in parameters:
        state = optimizer.state.get(parameter, {})
        for name in ("state1", "state2"):
            if name in state:
                buffer = optimizer.get_state_buffer(parameter, dtype=state[name].dtype)
                buffer.copy_(state[name])
                state[name] = buffer


def live_adapter(model: nn.Module) -> dict[str, torch.Tensor]:
    """A PEFT model's adapter as PEFT would save it; the tensors share their memory with the model.

    Raises:
        StateMismatch: if something trains that PEFT would not save.
    """
    from peft import get_peft_model_state_dict

    found: dict[str, torch.Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    held = {tensor.data_ptr() for tensor in found.values()}
    lost = [name for name, p in model.named_parameters() if p.requires_grad and p.data_ptr() not in held]
    if lost:
        raise StateMismatch(f"{len(lost)} trained tensors would not be saved by PEFT, {lost[0]} first")
    return found


def rng_state() -> dict[str, Any]:
    """The state of every random number generator of this process."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()
    tensors = {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64))}
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    plain = {"python": [version, list(words), gauss], "numpy": [kind, int(position), int(has_gauss), float(cached)]}
    return {"tensors": tensors, "plain": plain}


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Put every generator of this process into a state that `rng_state` told."""
    version, words, gauss = state["plain"]["python"]
    random.setstate((version, tuple(words), gauss))
    kind, position, has_gauss, cached = state["plain"]["numpy"]
    keys = state["tensors"]["numpy"].numpy().astype(np.uint32)
    np.random.set_state((kind, keys, position, has_gauss, cached))
    torch.set_rng_state(state["tensors"]["torch"])
    if torch.cuda.is_available() and "cuda" in state["tensors"]:
        torch.cuda.set_rng_state(state["tensors"]["cuda"])


def _copied(live: Mapping[str, torch.Tensor], room: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies in host memory, in the room of earlier ones where it fits; pinned where they come from a GPU."""
    made = {}
    for name, tensor in live.items():
        place = room.get(name)
        if place is None or place.shape != tensor.shape or place.dtype != tensor.dtype:
            place = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        made[name] = place.copy_(tensor.detach(), non_blocking=True)
    return made
