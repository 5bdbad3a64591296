"""What platforms call a card, and the instances that are ordered by their own name instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vlcheck.gpus import Gpu, UnknownGpu, gpu

READ = "2026-11-27"

ALIASES: Mapping[str, Mapping[str, str]] = {
    # docs.skypilot.co/en/latest/overview: `sky show-gpus` lists A100 (40 GB) beside A100-80GB
    "skypilot": {"A100": "a100-40gb", "V100": "v100-16gb", "V100-32GB": "v100-32gb", "RTXPRO6000": "rtx-pro-6000"},
    # modal.com/docs/guide/gpu: "A100" is the 40 GB card, which may be upgraded for free; "H100!" is never upgraded
    "modal": {"A100": "a100-40gb", "H100!": "h100", "A10": "a10g", "RTX-PRO-6000": "rtx-pro-6000"},
    # cloud.google.com/kubernetes-engine/docs/how-to/gpus: labels of GKE's nodes
    "kubernetes": {"nvidia-tesla-a100": "a100-40gb", "nvidia-a100-80gb": "a100-80gb", "nvidia-tesla-t4": "t4",
                   "nvidia-tesla-v100": "v100-16gb", "nvidia-tesla-p100": "p100", "nvidia-h200-141gb": "h200",
                   "nvidia-h100-mega-80gb": "h100", "NVIDIA-A100-SXM4-40GB": "a100-40gb"},
    "runpod": {"NVIDIA H100 NVL": "", "NVIDIA H100 PCIe": "h100", "NVIDIA H200 NVL": "",
               "NVIDIA RTX PRO 6000 Blackwell Server Edition": "rtx-pro-6000",
               "NVIDIA RTX 6000 Ada Generation": "rtx-6000-ada"},
}  # fmt: skip
"""Names by which `vlcheck.gpus` does not know a card; empty where it has no row for it."""


@dataclass(frozen=True)
class Instance:
    """A machine that is ordered by its own name."""

    gpu: str
    count: int
    cpu: int
    memory_gib: int


INSTANCES: Mapping[str, Instance] = {
    "g4dn.xlarge": Instance("t4", 1, 4, 16), "g4dn.12xlarge": Instance("t4", 4, 48, 192),
    "g5.xlarge": Instance("a10g", 1, 4, 16), "g5.2xlarge": Instance("a10g", 1, 8, 32),
    "g5.4xlarge": Instance("a10g", 1, 16, 64), "g5.8xlarge": Instance("a10g", 1, 32, 128),
    "g5.12xlarge": Instance("a10g", 4, 48, 192), "g5.48xlarge": Instance("a10g", 8, 192, 768),
    "g6.xlarge": Instance("l4", 1, 4, 16), "g6.2xlarge": Instance("l4", 1, 8, 32),
    "g6.12xlarge": Instance("l4", 4, 48, 192), "g6.48xlarge": Instance("l4", 8, 192, 768),
    "g6e.xlarge": Instance("l40s", 1, 4, 32), "g6e.2xlarge": Instance("l40s", 1, 8, 64),
    "g6e.4xlarge": Instance("l40s", 1, 16, 128), "g6e.12xlarge": Instance("l40s", 4, 48, 384),
    "p3.2xlarge": Instance("v100-16gb", 1, 8, 61), "p4d.24xlarge": Instance("a100-40gb", 8, 96, 1152),
    "p4de.24xlarge": Instance("a100-80gb", 8, 96, 1152), "p5.4xlarge": Instance("h100", 1, 16, 256),
    "p5.48xlarge": Instance("h100", 8, 192, 2048), "p5en.48xlarge": Instance("h200", 8, 192, 2048),
}  # fmt: skip
"""Amazon's, which SageMaker orders with `ml.` before them: aws.amazon.com/ec2/instance-types, known by 2026-11-27."""


def card_of(platform: str, name: str) -> Gpu:
    """The row of the card that a platform calls by this name.

    Raises:
        UnknownGpu: if no row describes it.
    """
    alias = ALIASES.get(platform, {}).get(name, name)
    if not alias:
        raise UnknownGpu(f"no row describes {name!r}")
    return gpu(alias)
