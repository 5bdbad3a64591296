"""A job as its platform will start it: each value with the place that set it, and None where nothing did."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeAlias, TypeVar

from vlcheck.spec import Location

T = TypeVar("T")
Storage: TypeAlias = Literal["bucket", "volume", "memory", "scratch", "unknown"]
"""What lies behind a mounted folder: object storage; a disk or a network file system that outlives the job; the job's
own memory; a disk that goes with it; or what the file does not say."""


@dataclass(frozen=True)
class Placed(Generic[T]):
    """A value, and where it was written."""

    value: T
    where: Location


@dataclass(frozen=True)
class Mount:
    """A folder of the container that is not the container's own."""

    path: str
    """Absolute, as the job sees it."""
    storage: Storage
    where: Location
    read_only: bool = False


@dataclass(frozen=True)
class Requirement:
    """A package that the job's image installs, or the job before it trains."""

    name: str
    """Normalised: lower case, hyphens."""
    text: str
    """As it was written, the version's bounds included."""
    where: Location
    constrained: bool = False
    """It is installed under a file of constraints."""

    @property
    def version(self) -> str:
        """The one version that it names; empty where it leaves the choice to the day of the build."""
        _, equal, version = self.text.partition("==")
        return version.lstrip("=").split(";")[0].strip() if equal and "*" not in version else ""

    @property
    def pinned(self) -> bool:
        """Whether every build installs the same."""
        return bool(self.version) or self.constrained or " @ " in self.text


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job. Paths are those of its container: nothing of it is looked for on this machine."""

    platform: str
    """Name of the platform's row in `vlcheck.launch.platforms`."""
    where: Location
    """The job as a whole."""
    whole: bool = True
    """Whether what is not set here is the platform's default; an update leaves it as it was."""
    gpu: Placed[str] | None = None
    """Kind of card, by the platform's own name."""
    gpu_count: Placed[int] | None = None
    """Cards of one task, or of one node."""
    cpu: Placed[float] | None = None
    """Virtual CPUs."""
    memory_bytes: Placed[int] | None = None
    """Main memory of a task, in bytes."""
    disk_bytes: Placed[int] | None = None
    """The container's own disk, in bytes."""
    timeout_seconds: Placed[int] | None = None
    """Longest run of one attempt."""
    retries: Placed[int] | None = None
    """Attempts after the first."""
    grace_seconds: Placed[int] | None = None
    """Between the signal that ends the job and its end."""
    region: Placed[str] | None = None
    image: Placed[str] | None = None
    base: Placed[str] | None = None
    """Image that a Dockerfile of the job begins with."""
    workdir: Placed[str] | None = None
    """Folder that the command starts in, where the job or its Dockerfile says so."""
    command: tuple[Placed[str], ...] = ()
    """Words of the entry point and its arguments, as far as they are known."""
    env: Mapping[str, Placed[str]] = field(default_factory=dict)
    """Variables whose values stand in the file."""
    secrets: tuple[str, ...] = ()
    """Variables that a store of secrets fills."""
    mounts: tuple[Mount, ...] = ()
    mounts_told: bool = True
    """Whether a folder that is not in `mounts` is the container's own for certain."""
    tasks: Placed[int] | None = None
    """Copies of the job that one launch starts."""
    parallelism: Placed[int] | None = None
    """How many of them run at once; unset is all."""
    spot: Placed[bool] | None = None
    """Whether it runs on capacity that the platform takes back."""
    requirements: tuple[Requirement, ...] = ()
    keywords: tuple[Placed[str], ...] = ()
    """Arguments that a script of the job hands to `TrainingArguments` or `SFTConfig`."""
    resumes_any: Placed[str] | None = None
    """Where a script of the job takes up any checkpoint that it finds, and with what."""
    remarks: tuple[str, ...] = ()
    """What of the job's files was read, or could not be, a sentence each."""

    def mount_of(self, path: str) -> Mount | None:
        """The mount that holds a path of the container; None for the container's own disk.

        Args:
            path: absolute.
        """
        path = posixpath.normpath(path)
        holding = [m for m in self.mounts if f"{path}/".startswith(f"{posixpath.normpath(m.path).rstrip('/')}/")]
        return max(holding, key=lambda mount: len(mount.path), default=None)

    def flags(self) -> Iterator[tuple[str, Placed[str]]]:
        """Flags of the command without their dashes, `_` for `-`, each with its value; empty for one that has none."""
        words = list(self.command)
        for index, word in enumerate(words):
            name, equal, value = word.value.partition("=")
            if not name.startswith("-") or name.strip("-") == "":
                continue
            following = words[index + 1].value if index + 1 < len(words) else "-"
            text = value if equal else "" if following.startswith("-") else following
            yield name.lstrip("-").replace("-", "_"), Placed(text, word.where)

    def flag(self, *names: str) -> Placed[str] | None:
        """The value of the last of these flags that the command sets."""
        return next((value for name, value in reversed(list(self.flags())) if name in names), None)
