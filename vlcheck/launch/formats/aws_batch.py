"""AWS Batch: the JSON of `register-job-definition` or `submit-job`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vlcheck.finding import Json
from vlcheck.launch.formats.containers import environment, words
from vlcheck.launch.formats.machines import with_instance
from vlcheck.launch.job import Job, Mount, Placed, Storage
from vlcheck.launch.quantities import cpus, mebibytes, number, seconds, text, whole
from vlcheck.launch.tree import Tree

NAME = "AWS Batch job"
RECOGNISED_BY = "`jobDefinitionName` with `containerProperties`, or `jobQueue` with `jobDefinition`"


def recognises(document: Mapping[str, Json]) -> bool:
    """Whether a document is a job definition or a submission of one."""
    keys = set(document)
    return {"jobDefinitionName", "containerProperties"} <= keys or {"jobQueue", "jobDefinition"} <= keys


def read(tree: Tree) -> Job:
    """The job of a document; what kind of card its queue has is not in it, unless an instance type is.

    Raises:
        ConfigError: for a value that cannot be what it must be.
    """
    container = tree.at("containerProperties", "containerOverrides")
    asked = {
        str((each / "type").value).upper(): each / "value" for each in (container / "resourceRequirements").items()
    }
    nothing = Tree(None, {})
    cpu = asked.get("VCPU", nothing).read(cpus) or (container / "vcpus").read(cpus)
    memory = asked.get("MEMORY", nothing).read(mebibytes) or (container / "memory").read(mebibytes)
    attempts = tree.down("retryStrategy", "attempts").read(whole)
    env, _ = environment(container / "environment")
    submitted = "jobQueue" in (tree.value if isinstance(tree.value, dict) else {})
    job = Job(
        platform="aws-batch",
        where=tree.where,
        whole=not submitted,
        gpu_count=asked.get("GPU", nothing).read(whole),
        cpu=cpu,
        memory_bytes=memory,
        timeout_seconds=tree.down("timeout", "attemptDurationSeconds").read(seconds),
        retries=None if attempts is None else Placed(max(0, attempts.value - 1), attempts.where),
        image=(container / "image").read(text),
        command=words(container / "command"),
        env=env,
        secrets=tuple(name.value for each in (container / "secrets").items() if (name := (each / "name").read(text))),
        mounts=tuple(_mounts(container)),
        mounts_told=not submitted,
        tasks=tree.down("arrayProperties", "size").read(whole),
    )
    return with_instance(job, (container / "instanceType").read(text), whole_machine=False)


def _mounts(container: Tree) -> Iterator[Mount]:
    behind = {}
    for volume in (container / "volumes").items():
        if name := (volume / "name").read(text):
            behind[name.value] = volume
    for mount in (container / "mountPoints").items():
        path, name = (mount / "containerPath").read(text), (mount / "sourceVolume").read(text)
        if path is None:
            continue
        volume = behind.get(name.value if name else "", Tree(None, {}))
        storage: Storage = "unknown"  # a folder of the machine may lie on a file system that outlives it
        if volume / "efsVolumeConfiguration" or volume / "fsxVolumeConfiguration":
            storage = "volume"
        elif not volume.down("host", "sourcePath"):
            storage = "scratch"
        yield Mount(path.value, storage, path.where, (mount / "readOnly").value is True)
    for tmpfs in container.down("linuxParameters", "tmpfs").items():
        if path := (tmpfs / "containerPath").read(text):
            (tmpfs / "size").read(number)
            yield Mount(path.value, "memory", path.where)
