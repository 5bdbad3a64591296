"""What platforms do with a job: one row a platform, each fact with its source and the day on which it was read.

Platforms change without a word. A fact that is disputed, or that was read more than `STALE_DAYS` ago, warns and never
fails a job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Generic, TypeVar

T = TypeVar("T")
STALE_DAYS = 366
HOUR = 3600


@dataclass(frozen=True)
class Told(Generic[T]):
    """A fact about a platform."""

    value: T
    source: str
    read: date
    doubt: str = ""
    """Who says otherwise; empty where nobody was found to."""

    def why_unsure(self, today: date) -> str:
        """Why no job may fail by this fact; empty where it may."""
        if self.doubt:
            return self.doubt
        age = (today - self.read).days
        return f"read {age} days ago" if age > STALE_DAYS else ""


@dataclass(frozen=True)
class Minimum:
    """The least of a job that takes a card."""

    cpu: float
    memory_gib: float


@dataclass(frozen=True)
class Price:
    """What a card costs an hour, in US dollars, and its machine where that is charged beside it."""

    usd: float
    what: str
    cpu_usd: float = 0.0
    """Each virtual CPU, an hour; 0 where the card's price includes it."""
    gib_usd: float = 0.0
    """Each GiB of memory, an hour."""


@dataclass(frozen=True, kw_only=True)
class Platform:
    """One platform. What is None is not bounded there, or is not known."""

    name: str
    title: str
    default_timeout: Told[int] | None = None
    """Seconds of an attempt where the job sets none."""
    longest: Told[int] | None = None
    """Seconds that a job with a card may ask for."""
    timeout_retried: Told[bool] | None = None
    """Whether an attempt that reached its timeout is followed by a retry with a timeout of its own."""
    default_retries: Told[int] | None = None
    grace: Told[int] | None = None
    """Seconds from SIGTERM to SIGKILL where the job sets none."""
    minimums: Mapping[str, Told[Minimum]] = field(default_factory=dict)
    """By the card's name in `vlcheck.gpus`."""
    regions: Mapping[str, Told[tuple[str, ...]]] = field(default_factory=dict)
    """Regions that offer a card."""
    files_in_memory: Told[bool] | None = None
    """Whether what the container writes on its own disk counts against its memory."""
    staged_in_memory: Told[bool] | None = None
    """Whether a file that is written to a mounted bucket lies in the job's memory until it is closed."""
    interrupted: Told[str] | None = None
    """What ends a job with a card before its time, and how often."""
    disk_stays: bool = False
    """Whether the machine's own disk is still there after the job."""
    prices: Mapping[str, Told[Price]] = field(default_factory=dict)


_READ = date(2026, 11, 27)
_RUN = "docs.cloud.google.com/run/docs/configuring"
_RUN_GPU = "cloud.google.com/run/docs/configuring/jobs/gpu"
_SAGEMAKER = "docs.aws.amazon.com/sagemaker, StoppingCondition"
_BATCH = "docs.aws.amazon.com/batch/latest/userguide/job_timeouts.html"
_RUNPOD = "runpod.io/pricing"


def _run_price(card: float) -> Told[Price]:
    """Dollars a second of a card on Cloud Run, in us-central1 and without zonal redundancy."""
    price = Price(round(card * HOUR, 2), "us-central1, without zonal redundancy", 0.000018 * HOUR, 0.000002 * HOUR)
    return Told(
        price,
        "cloud.google.com/run/pricing",
        date(2026, 5, 24),
        doubt="from two transcripts of the page that agree; the page itself was not read again",
    )


def _regions(*names: str) -> Told[tuple[str, ...]]:
    return Told(names, _RUN_GPU, _READ)


PLATFORMS: tuple[Platform, ...] = (
    Platform(
        name="cloud-run",
        title="Cloud Run",
        default_timeout=Told(600, f"{_RUN}/task-timeout", _READ),
        longest=Told(
            12 * HOUR, f"{_RUN}/task-timeout", _READ,
            doubt="two copies of the page say 1 hour and 12 hours (preview), the sample's author 168 hours",
        ),
        timeout_retried=Told(True, f"{_RUN}/task-timeout", _READ),
        default_retries=Told(3, f"{_RUN}/max-retries", _READ),
        grace=Told(10, "cloud.google.com/run/docs/container-contract", _READ,
                   doubt="the page says it of services; for jobs it was not confirmed"),
        minimums={
            "rtx-pro-6000": Told(Minimum(20, 80), _RUN_GPU, _READ),
            "l4": Told(Minimum(4, 16), _RUN_GPU, _READ),
        },
        regions={
            "rtx-pro-6000": _regions("us-central1", "europe-west4", "asia-southeast1", "asia-south2"),
            "l4": _regions("us-central1", "us-east4", "europe-west1", "europe-west4", "asia-southeast1", "asia-south1"),
        },
        files_in_memory=Told(True, "cloud.google.com/run/docs/container-contract", _READ),
        staged_in_memory=Told(
            True, "cloud.google.com/run/docs/configuring/jobs/cloud-storage-volume-mounts", _READ,
            doubt="older copies of the page say that the entire file is staged in memory, newer ones word it otherwise",
        ),
        interrupted=Told(
            "tasks with GPUs are not migrated: one of several hours should be expected to be ended at least once",
            f"{_RUN}/task-timeout", _READ,
        ),
        prices={"l4": _run_price(0.0001867), "rtx-pro-6000": _run_price(0.00036522)},
    ),
    Platform(
        name="kubernetes",
        title="Kubernetes",
        default_retries=Told(6, "kubernetes.io/docs/concepts/workloads/controllers/job", _READ),
        grace=Told(30, "kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle", _READ),
    ),
    Platform(
        name="skypilot",
        title="SkyPilot",
        default_retries=Told(0, "docs.skypilot.co/en/latest/reference/yaml-spec.html, job_recovery", _READ),
    ),
    Platform(
        name="modal",
        title="Modal",
        default_timeout=Told(300, "modal.com/docs/guide/timeouts", _READ),
        longest=Told(24 * HOUR, "modal.com/docs/guide/timeouts", _READ),
        timeout_retried=Told(True, "modal.com/docs/guide/timeouts", _READ),
        default_retries=Told(0, "modal.com/docs/guide/retries", _READ),
        interrupted=Told("all functions can be preempted, those with GPUs without exception",
                         "modal.com/docs/guide/preemption", _READ),
    ),
    Platform(
        name="aws-batch",
        title="AWS Batch",
        default_retries=Told(0, "docs.aws.amazon.com/batch, RetryStrategy: one attempt", _READ),
        grace=Told(30, _BATCH, _READ),
    ),
    Platform(
        name="sagemaker",
        title="SageMaker",
        default_timeout=Told(24 * HOUR, _SAGEMAKER, _READ),
        longest=Told(28 * 24 * HOUR, _SAGEMAKER, _READ),
        default_retries=Told(0, "docs.aws.amazon.com/sagemaker, RetryStrategy", _READ),
        grace=Told(120, _SAGEMAKER, _READ),
    ),
    Platform(
        name="runpod",
        title="RunPod",
        default_retries=Told(0, "docs.runpod.io/api-reference-v2/pods/create-a-pod", _READ),
        prices={
            "h100": Told(Price(3.99, "H100 SXM, Secure Cloud, machine included"), _RUNPOD, date(2026, 11, 9),
                         doubt="3.49 on 2026-10-07; 2.69 in the Community Cloud"),
            "h200": Told(Price(4.59, "machine included"), _RUNPOD, date(2026, 10, 7)),
            "b200": Told(Price(6.79, "machine included"), _RUNPOD, date(2026, 10, 7)),
            "a100-80gb": Told(Price(1.79, "Secure Cloud, machine included"), _RUNPOD, date(2026, 11, 9)),
        },
    ),
    Platform(name="local", title="this machine", disk_stays=True),
)  # fmt: skip
"""The known platforms."""


def platform_of(name: str) -> Platform:
    """The row of a platform.

    Raises:
        KeyError: if there is none.
    """
    return {row.name: row for row in PLATFORMS}[name]
