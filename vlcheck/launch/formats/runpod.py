"""A RunPod pod: the body of its API's `POST /pods`, version 1 or 2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from vlcheck.finding import Json
from vlcheck.launch.formats.containers import environment, words
from vlcheck.launch.job import Job, Mount, Placed
from vlcheck.launch.quantities import cpus, gibibytes, switch, text, whole
from vlcheck.launch.tree import Tree

NAME = "RunPod pod"
RECOGNISED_BY = "`imageName` with `gpuTypeIds`, or `image` with `gpu` and `name`"
VOLUME = "/workspace"
"""Where a pod's volume is mounted unless it says otherwise (docs.runpod.io/api-reference/pods)."""
RETIRED = "version 1 of RunPod's API was to be retired on 2026-11-15 (docs.runpod.io/api/errors)"


def recognises(document: Mapping[str, Json]) -> bool:
    """Whether a document is the body of a pod."""
    keys = set(document)
    first = "imageName" in keys and bool({"gpuTypeIds", "gpuTypeId", "gpuCount"} & keys)
    return first or {"image", "gpu", "name"} <= keys


def read(tree: Tree) -> Job:
    """The job of a document; of several kinds of cards the first, which is the one preferred.

    Raises:
        ConfigError: for a value that cannot be what it must be.
    """
    first = bool(tree / "imageName")
    env, _ = environment(tree / "env")
    kinds = tree / "gpuTypeIds"
    gpu = (kinds / 0 if isinstance(kinds.value, list) else tree / "gpuTypeId") if first else tree.down("gpu", "id")
    several = isinstance(kinds.value, list) and len(kinds.value) > 1
    count = ((tree / "gpuCount") if first else tree.down("gpu", "count")).read(whole)
    told = Job(
        platform="runpod",
        where=tree.where,
        gpu=gpu.read(text),
        gpu_count=count,
        disk_bytes=tree.at("containerDiskInGb", "disk").read(gibibytes),
        region=(tree / "dataCenterIds" / 0).read(text),
        image=tree.at("imageName", "image").read(text),
        command=(*words(tree / "dockerEntrypoint"), *words(tree.at("dockerStartCmd", "args"))),
        env={name: value for name, value in env.items() if "{{" not in value.value},
        secrets=tuple(name for name, value in env.items() if "RUNPOD_SECRET" in value.value),
        mounts=tuple(_mounts(tree)),
        spot=(tree / "interruptible").read(switch),
        remarks=(RETIRED,) * first + ("of several kinds of cards the first was read",) * several,
    )
    cards = count.value if count is not None else 1
    cpu, memory = (tree / "minVCPUPerGPU").read(cpus), (tree / "minRAMPerGPU").read(gibibytes)
    return replace(
        told,
        cpu=None if cpu is None else Placed(cpu.value * cards, cpu.where),
        memory_bytes=None if memory is None else Placed(memory.value * cards, memory.where),
    )


def _mounts(tree: Tree) -> Iterator[Mount]:
    path = (tree / "volumeMountPath").read(text)
    first = bool(tree / "imageName")
    if first and (tree / "networkVolumeId" or (tree / "volumeInGb").value != 0):  # 20 GB where nothing is said
        yield Mount(path.value if path else VOLUME, "volume", (path or Placed("", tree.where)).where)
    for kind in ("persistent", "network"):
        mount = tree.down("mounts", kind)
        if mount:
            at = mount.at("path", "mountPath").read(text) if isinstance(mount.value, dict) else None
            yield Mount(at.value if at else VOLUME, "volume", mount.where)
