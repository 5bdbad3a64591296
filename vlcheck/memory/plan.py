"""The projection of a run: what its card will hold at the worst moment, by cause, and how sure that is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

from vlcheck.gpus import Gpu
from vlcheck.memory.allocator import play
from vlcheck.memory.shape import Shape
from vlcheck.memory.tape import Tape

YARDSTICK = "h100"
"""The card whose kernels a run is projected with where its own is not known: the one that was measured."""
MEASURED_BAND = 0.015
"""Of 70 measured runs none was farther off (`fixtures/measured`); also the least that is claimed."""
DOUBT_BAND = 0.03
"""What each doubt adds."""
COMPILED = "compiled layers are projected as they are written; four measured runs took 9% less to 12% more"
"""The doubt about a run that compiles its layers."""
COMPILED_KEPT = ("compiled layers are projected as they are written, and keep fewer activations where they are not "
                 "checkpointed; two measured runs took 19% and 20% less")  # fmt: skip
"""The doubt about a run that compiles layers of which some are not checkpointed."""
GRAPHS = "compiled layers are projected as torch's partitioner splits them, and their kernels as they fuse"
"""The doubt about a run whose compiled layers were simulated by their graphs."""
OUTLIERS = ("LLM.int8 takes columns with outliers apart, which depend on values and are not counted; with random "
            "weights they took 1 to 11% more")  # fmt: skip
"""The doubt about a run on an LLM.int8 base."""
WIDER = {COMPILED: 0.12, COMPILED_KEPT: 0.2, GRAPHS: 0.12, OUTLIERS: 0.08}
"""What these doubts add beside what each one does. Compiled, 1.5 to 2.2 % more than projected was measured for Gemma 4
31B, 12 % more for Qwen2.5-VL 7B, 9 % less for Gemma 4 E4B (`fixtures/measured/trainer-*.jsonl`). By graphs: 1 % for
the 31B, and up to 14 % more (Qwen2.5-VL 7B) by a version that compiled the checkpoint too. LLM.int8 is in
`fixtures/measured/settings-*.jsonl`."""
RESERVED_BAND = 0.03
"""How far segments may be off: what order the blocks come in differs a little from run to run."""
MANAGED_GRAIN = 128 * 2**20
"""The driver takes managed memory in pieces of this size (seen on an H100, driver 580)."""


class FitVerdict(Enum):
    """Whether a run fits its card."""

    FITS = "fits"
    TIGHT = "within the error band"
    OVER = "does not fit"


@dataclass(frozen=True)
class LedgerLine:
    """Bytes of one cause at the peak."""

    cause: str
    size: int


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """What a run's step takes on one card.

    The lines add up to `allocated_bytes`, to the byte.
    """

    gpu: Gpu
    shape: Shape
    lines: tuple[LedgerLine, ...]
    reserved_bytes: int
    """Peak of the segments that torch takes from the driver."""
    managed_bytes: int = 0
    """State of a paged optimizer: on the card, outside the allocator."""
    nccl_bytes: int = 0
    """What several GPUs take on each card to speak with each other, outside the allocator."""
    moment: str = ""
    """Where in the step the peak is reached."""
    moments: dict[str, int] = field(default_factory=dict)
    """Allocated peak of each moment, in the order of the step."""
    typical_bytes: int = 0
    """What the driver counts in a micro-batch of middling rows; 0 where rows are unknown, or all as long as these."""
    kernels: dict[str, int] = field(default_factory=dict)
    """Attention calls that were simulated, by kernel."""
    doubts: tuple[str, ...] = ()
    """What widens the band, each for a reason."""

    @property
    def allocated_bytes(self) -> int:
        """What `torch.cuda.max_memory_allocated` will report at the peak, in bytes."""
        return sum(line.size for line in self.lines)

    @property
    def band(self) -> float:
        """Share by which the allocated peak may be off, upward or downward; from measurement."""
        return MEASURED_BAND + sum(DOUBT_BAND + WIDER.get(doubt, 0) for doubt in self.doubts)

    @property
    def upper_bytes(self) -> int:
        """The allocated peak with its band on top, in bytes: no run should allocate more."""
        return int(self.allocated_bytes * (1 + self.band))

    @property
    def outside_bytes(self) -> int:
        """What is on the card beside torch's segments: managed memory, the context, and NCCL."""
        managed = -(-self.managed_bytes // MANAGED_GRAIN) * MANAGED_GRAIN
        return managed + self.gpu.context_bytes + self.nccl_bytes

    @property
    def driver_bytes(self) -> int:
        """What the driver counts as used at the peak, in bytes: segments, managed memory, context, NCCL."""
        return self.reserved_bytes + self.outside_bytes

    @property
    def verdict(self) -> FitVerdict:
        """Whether it fits. Segments that hold nothing are given back before torch gives up, so what is certainly
        needed is what is allocated.
        """
        room = self.gpu.total_bytes - self.outside_bytes
        if self.allocated_bytes * (1 - self.band) > room:
            return FitVerdict.OVER
        return FitVerdict.FITS if self.reserved_bytes * (1 + self.band + RESERVED_BAND) <= room else FitVerdict.TIGHT

    @property
    def headroom_bytes(self) -> int:
        """What the driver would count as free; negative where it does not fit."""
        return self.gpu.total_bytes - self.driver_bytes

    def of(self, *causes: str) -> int:
        """Bytes of the lines whose cause starts with one of these."""
        return sum(line.size for line in self.lines if line.cause.startswith(causes))


def plan_of(tape: Tape, gpu: Gpu, shape: Shape, *, managed: int = 0, kernels: dict[str, int] | None = None,
            doubts: tuple[str, ...] = ()) -> MemoryPlan:  # fmt: skip
    """Read the plan off a tape.

    Args:
        managed: bytes of optimizer state outside the allocator.
        kernels: attention calls of a micro-step, by kernel.
        doubts: what widens the band, each for a reason.
    """
    played = play(tape)
    sizes: Counter[str] = Counter()
    for block, size in played.blocks.items():
        sizes[tape.causes[block]] += tape.sizes[block]
        sizes["allocator rounding"] += size - tape.sizes[block]
    return MemoryPlan(
        gpu=gpu,
        shape=shape,
        lines=tuple(LedgerLine(cause, size) for cause, size in sizes.most_common() if size),
        reserved_bytes=played.reserved_bytes,
        managed_bytes=managed,
        moment=tape.moment_at(played.peak_event),
        moments=played.segments,
        kernels=kernels or {},
        doubts=doubts,
    )
