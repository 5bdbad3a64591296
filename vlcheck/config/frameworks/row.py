"""What a row of the table of frameworks holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from vlcheck.library_settings import Freezable
from vlcheck.spec import CheckpointingKwargs
from vlcheck.spec import Framework as Name

T = TypeVar("T")
Supervision: TypeAlias = Literal["answers", "all", "all but images", "none"]
"""What a framework's own collator for images gives a label: the answers with their end tokens; every id that is not
padding; those but the images' placeholders; or it has no such collator."""
TooLong: TypeAlias = Literal["cut", "dropped", "kept"]
"""What becomes of a row with images that is longer than the limit."""


@dataclass(frozen=True)
class Fact(Generic[T]):
    """A value, and where the framework says so."""

    value: T
    source: str


@dataclass(frozen=True, kw_only=True)
class Framework:
    """One framework at one version."""

    name: Name
    version: str
    package: str
    """Name of its distribution."""
    collator: Fact[str]
    """The collator of a run with images, by its import path; empty where the user brings one."""
    supervises: Fact[Supervision]
    too_long: Fact[TooLong]
    answers_alone: Fact[str] = Fact("", "")
    """How it is told to supervise answers alone where it does not by itself; what was tried with rows of images."""
    example: str = ""
    """An official example of rows with images that leaves its supervision as it is."""
    columns: Fact[tuple[str, ...]]
    """Columns that it reads of a row with images."""
    freezes: Fact[tuple[Freezable, ...]]
    """Parts that get no adapter unless it is told otherwise: the default of `training.freeze`."""
    freezes_named: bool = False
    """Whether those get none where targets are named one by one, too."""
    spares: tuple[Freezable, ...] = ()
    """Parts that its `all-linear` leaves out whatever it is told to freeze."""
    unset: Fact[str] | None = None
    """Regex for the whole path of a linear layer that is adapted where no targets are set; None leaves it to PEFT."""
    all_linear: Fact[str] | None = None
    """The same for `all-linear`; None is every linear layer but the head."""
    wakes_inputs: Fact[bool] = Fact(False, "")
    """Whether it makes the inputs of every checkpointed block require a gradient, in the towers too, so that reentrant
    checkpointing loses none."""
    defaults: Mapping[str, Fact[Any]] = field(default_factory=dict)
    """Dotted path of a run's description to the value, or to a function that makes it of the run so far."""
    file_defaults: Mapping[str, Fact[Any]] = field(default_factory=dict)
    """What its own config file and command line add to `defaults`, or have otherwise."""
    depends: Mapping[str, Fact[str]] = field(default_factory=dict)
    """Dotted path to a default that the description alone does not settle, in words: it is told, not filled in."""

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"


def reentrant(value: bool) -> CheckpointingKwargs:
    """Keyword arguments of torch's checkpoint that say only this."""
    return CheckpointingKwargs(use_reentrant=value)


def packed(place: str, **more: Fact[Any]) -> dict[str, Fact[Any]]:
    """4-bit settings of the three frameworks that choose nf4 with double quantisation by themselves."""
    return {
        "quantization.bnb_4bit_quant_type": Fact("nf4", place),
        "quantization.bnb_4bit_use_double_quant": Fact(True, place),
        **{f"quantization.{key}": value for key, value in more.items()},
    }
