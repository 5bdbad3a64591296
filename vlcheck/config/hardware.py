"""Hardware that the command line names: it outranks the config's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlcheck.spec import RunSpec

TYPED = "<command line>"
"""Stands for the file in the place of a value that an option set."""


def on_hardware(
    spec: RunSpec,
    *,
    gpu: str | None = None,
    memory_gib: float | None = None,
    gpus: int | None = None,
    place: str = TYPED,
) -> RunSpec:
    """The run on the hardware that options name; what they leave out is the config's.

    Args:
        gpu: a card by name. It replaces the config's card, its memory included.
        memory_gib: of one GPU; alone it replaces the config's card too.
        gpus: how many.
        place: the file, or what stands for one, that says so.
    """
    from vlcheck.spec import Location

    wanted: dict[str, object] = {}
    if gpu is not None or memory_gib is not None:
        wanted |= {"gpu": gpu, "memory_gib": memory_gib}
    if gpus is not None:
        wanted["count"] = gpus
    if not wanted:
        return spec
    typed = {f"hardware.{key}": Location(place, key=f"hardware.{key}") for key in wanted}
    if "hardware.memory_gib" in typed:  # findings about the card point at hardware.gpu
        typed["hardware.gpu"] = Location(place, key="hardware.gpu")
    hardware = replace(spec.hardware, **wanted)  # type: ignore[arg-type]  # a mapping of its own fields
    return replace(spec, hardware=hardware, sources={**spec.sources, **typed})
