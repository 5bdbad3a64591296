"""A Kubernetes `Job` (batch/v1)."""

from __future__ import annotations

from collections.abc import Mapping

from vlcheck.finding import Json
from vlcheck.launch.formats.containers import container_fields
from vlcheck.launch.job import Job, Placed
from vlcheck.launch.quantities import seconds, text, whole
from vlcheck.launch.tree import Tree

NAME = "Kubernetes Job"
RECOGNISED_BY = "`apiVersion: batch/v1` and `kind: Job`"
SELECTORS = (
    "cloud.google.com/gke-accelerator",
    "nvidia.com/gpu.product",
    "k8s.amazonaws.com/accelerator",
    "accelerator",
)
"""Labels of nodes that name their card."""
SPOT = ("cloud.google.com/gke-spot", "karpenter.sh/capacity-type", "eks.amazonaws.com/capacityType")
"""Labels of nodes whose capacity is taken back."""
AFFINITY = ("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")


def recognises(document: Mapping[str, Json]) -> bool:
    """Whether a document is a Kubernetes Job."""
    return str(document.get("apiVersion")).startswith("batch/") and document.get("kind") == "Job"


def read(tree: Tree) -> Job:
    """The job of a document.

    Raises:
        ConfigError: for a value that cannot be what it must be.
    """
    spec = tree / "spec"
    pod = spec.down("template", "spec")
    selector = pod / "nodeSelector"
    spot = next((held for label in SPOT if (held := selector / label)), None)
    fields = container_fields(pod)
    return Job(
        platform="kubernetes",
        where=tree.where,
        gpu=selector.at(*SELECTORS).read(text) or _by_affinity(pod),
        timeout_seconds=(spec / "activeDeadlineSeconds").read(seconds) or (pod / "activeDeadlineSeconds").read(seconds),
        retries=(spec / "backoffLimit").read(whole),
        grace_seconds=(pod / "terminationGracePeriodSeconds").read(whole),
        region=selector.at("topology.kubernetes.io/region").read(text),
        tasks=(spec / "completions").read(whole) or (spec / "parallelism").read(whole),
        parallelism=(spec / "parallelism").read(whole),
        spot=None if spot is None else Placed(str(spot.value).lower() in ("true", "spot"), spot.where),
        **fields,
    )


def _by_affinity(pod: Tree) -> Placed[str] | None:
    """The card of the nodes that a pod demands by affinity; None where several would do."""
    for term in pod.down(*AFFINITY).items():
        for demand in (term / "matchExpressions").items():
            values = (demand / "values").value
            single = isinstance(values, list) and len(values) == 1
            if (demand / "key").value in SELECTORS and (demand / "operator").value == "In" and single:
                return (demand / "values" / 0).read(text)
    return None
