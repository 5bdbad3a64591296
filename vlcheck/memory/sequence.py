"""Put a run's tape together: loading, then one optimizer step after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from vlcheck.memory.ddp import Wrapping
from vlcheck.memory.optimizer import Optimized, step_blocks
from vlcheck.memory.tape import Tape
from vlcheck.memory.weights import Stored, load
from vlcheck.training.settings import StepSettings


def whole_tape(stored: Sequence[Stored], optimized: Optimized, settings: StepSettings,
               micro: Tape, gradients: list[int], workspaces: tuple[int, ...] = (),
               wrapping: Wrapping | None = None,
               evaluations: Mapping[str, Tape] = MappingProxyType({})) -> Tape:  # fmt: skip
    """Load, then two optimizer steps, the second of which meets the optimizer's state, then an evaluation.

    Args:
        stored: the model's tensors.
        optimized: what trains.
        micro: one micro-step.
        gradients: blocks of `micro` that are gradients, in the order in which they came.
        workspaces: bytes of each block that cuBLAS holds from the first product on.
        wrapping: in DDP, where several processes train.
        evaluations: what an evaluation does, by moment, where the run evaluates while it trains.
    """
    tape = Tape()
    tape.mark("loading")
    load(stored, tape, upcast=settings.kbit_preparation)
    buckets: list[int] = []
    if wrapping is not None:
        tape.mark("wrapping in DDP")
        buckets = wrapping.wrap(tape)
        tape.mark("forward")
    for size in workspaces:
        tape.allocate(size, "cuBLAS workspace")
    state: list[int] = []
    for step in range(2):
        if wrapping is not None and step:
            wrapping.rebuild(buckets, tape)
        kept = _play(tape, micro, gradients)
        if settings.accumulation > 1 and state:
            _play(tape, micro, gradients, accumulate=True)
        tape.mark("optimizer step")
        state += step_blocks(optimized, settings, tape, first=not state)
        for block in kept:
            tape.release(block)
    for moment, evaluation in evaluations.items():
        tape.mark(moment)
        _play(tape, replace(evaluation, marks=[]), [])
    return tape


def _play(tape: Tape, micro: Tape, gradients: list[int], *, accumulate: bool = False) -> list[int]:
    """Add a micro-step; where gradients are there already, new ones are added to them and die at once."""
    shift, begin = len(tape.sizes), len(tape.events)
    fresh = set(gradients)
    moved: list[int] = []
    marks = iter([*micro.marks, (len(micro.events) + 1, "")])
    at, moment = next(marks)
    alive: set[int] = set()
    for number, event in enumerate(micro.events):
        while number == at:
            tape.marks.append((begin + len(moved), moment))
            at, moment = next(marks)
        moved.append(event + shift if event >= 0 else event - shift)
        if event >= 0:
            alive.add(event)
            if accumulate and event in fresh:
                moved.append(~(event + shift))
                alive.discard(event)
        else:
            alive.discard(~event)
    tape.events += moved
    tape.sizes += micro.sizes
    tape.causes += ["gradients" if n in fresh else cause for n, cause in enumerate(micro.causes)]
    for block in sorted(alive - fresh):
        tape.release(block + shift)  # the batch
    return [block + shift for block in gradients if not accumulate]
