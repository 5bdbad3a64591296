"""The projection of a run: what its card will hold at the worst moment, by cause, and how sure that is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vlcheck.gpus import Gpu
from vlcheck.memory.allocator import play
from vlcheck.memory.attention import Arch
from vlcheck.memory.optimizer import managed_size
from vlcheck.memory.project import MicroStep, whole_tape
from vlcheck.memory.shape import Shape
from vlcheck.memory.step import trainable
from vlcheck.memory.tape import Tape

if TYPE_CHECKING:
    from torch import nn

    from vlcheck.family import Family
    from vlcheck.spec import RunSpec

MANAGED_GRAIN = 128 * 2**20
"""The driver takes managed memory in pieces of this size (seen on an H100, driver 580)."""


@dataclass(frozen=True)
class Line:
    """Bytes of one cause at the peak."""

    cause: str
    size: int


@dataclass(frozen=True)
class MemoryPlan:
    """What a run's step takes on one card.

    The lines add up to `allocated_bytes`, to the byte.
    """

    gpu: Gpu
    shape: Shape
    lines: tuple[Line, ...]
    allocated_bytes: int
    """Peak of `torch.cuda.max_memory_allocated`."""
    reserved_bytes: int
    """Peak of the segments that hold it."""
    requested_bytes: int
    """What the tensors of the allocated peak ask for, before rounding."""
    managed_bytes: int
    """State of a paged optimizer: on the card, outside the allocator."""
    moment: str
    """Where in the step the peak is reached."""
    moments: dict[str, int]
    """Allocated peak of each moment, in the order of the step."""
    kernels: dict[str, int] = field(default_factory=dict)
    """Attention calls by kernel."""
    doubts: tuple[str, ...] = ()
    """What widens the band: see `band`."""

    @property
    def band(self) -> float:
        """Share by which the allocated peak may be off, upward or downward; from measurement."""
        return MEASURED_BAND + DOUBT_BAND * len(self.doubts)

    @property
    def upper_bytes(self) -> int:
        """No run should allocate more."""
        return int(self.allocated_bytes * (1 + self.band))

    @property
    def driver_bytes(self) -> int:
        """What the driver counts as used: segments, managed memory, context."""
        return self.reserved_bytes + -(-self.managed_bytes // MANAGED_GRAIN) * MANAGED_GRAIN + self.gpu.context_bytes


MEASURED_BAND = 0.015
DOUBT_BAND = 0.05


def project_model(model: nn.Module, spec: RunSpec, shape: Shape, family: Family, gpu: Gpu) -> MemoryPlan:
    """Project one model that is packed and prepared; it is left as it was."""
    micro = MicroStep(model, spec, shape, family, Arch(gpu.major, gpu.minor, gpu.amd))
    tape, gradients = micro.run()
    whole = whole_tape(model, spec, tape, gradients, (gpu.workspace_bytes,) * 2)
    return plan_of(whole, gpu, shape, managed_size(trainable(model), spec.training.optim), dict(micro.functions.kernels))


def plan_of(tape: Tape, gpu: Gpu, shape: Shape, managed: int, kernels: dict[str, int]) -> MemoryPlan:
    """Read the plan off a tape."""
    played = play(tape)
    sizes: Counter[str] = Counter()
    asked = 0
    for block, size in played.blocks.items():
        sizes[tape.causes[block]] += tape.sizes[block]
        asked += tape.sizes[block]
        sizes["allocator rounding"] += size - tape.sizes[block]
    return MemoryPlan(
        gpu=gpu,
        shape=shape,
        lines=tuple(Line(cause, size) for cause, size in sizes.most_common() if size),
        allocated_bytes=played.allocated_bytes,
        reserved_bytes=played.reserved_bytes,
        requested_bytes=asked,
        managed_bytes=managed,
        moment=tape.moment_at(played.peak_event),
        moments=played.segments,
        kernels=kernels,
    )
