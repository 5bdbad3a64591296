"""What Cloud Run and Kubernetes say alike of containers and volumes, in camel case or Terraform's snake case."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vlcheck.finding import Json
from vlcheck.launch.job import Mount, Placed, Storage
from vlcheck.launch.quantities import cpus, size, text, whole
from vlcheck.launch.tree import Tree

GPU = ("nvidia.com/gpu", "amd.com/gpu")
"""Names of the resource that is a card."""


def container_fields(pod: Tree) -> dict[str, Any]:
    """The fields of a `Job` that the containers and volumes of a pod, or of a task, set.

    Args:
        pod: what holds `containers` and `volumes`.

    Raises:
        ConfigError: for a value that cannot be what it must be.
    """
    container = _training_container(pod)
    limits, requests = container / "resources" / "limits", container / "resources" / "requests"
    env, secrets = environment(container / "env")
    return {
        "gpu_count": limits.at(*GPU).read(whole) or requests.at(*GPU).read(whole),
        "cpu": (limits / "cpu").read(cpus) or (requests / "cpu").read(cpus),
        "memory_bytes": (limits / "memory").read(size) or (requests / "memory").read(size),
        "disk_bytes": (limits / "ephemeral-storage").read(size),
        "image": (container / "image").read(text),
        "workdir": container.at("workingDir", "working_dir").read(text),
        "command": (*words(container / "command"), *words(container / "args")),
        "env": env,
        "secrets": secrets,
        "mounts": tuple(_mounts(container, pod / "volumes")),
    }


def words(command: Tree) -> tuple[Placed[str], ...]:
    """A command's words: a list of them, or one text."""
    if isinstance(command.value, str):
        return tuple(Placed(word, command.where) for word in command.value.split())
    return tuple(word for item in command.items() if (word := item.read(text)))


def environment(env: Tree) -> tuple[dict[str, Placed[str]], tuple[str, ...]]:
    """Variables with a value in the file, and the names of those that are filled from elsewhere.

    Args:
        env: a list of mappings with `name` and `value`, or one mapping.
    """
    plain, elsewhere = {}, []
    pairs: Iterator[tuple[str, Tree]] = env.entries() if isinstance(env.value, dict) else _named(env)
    for name, value in pairs:
        if isinstance(value.value, str | int | float | bool):
            plain[name] = Placed(str(value.value), value.where)
        else:
            elsewhere.append(name)
    return plain, tuple(elsewhere)


def _named(env: Tree) -> Iterator[tuple[str, Tree]]:
    for item in env.items():
        if name := item.at("name", "Name").read(text):
            yield name.value, item.at("value", "Value")


def _training_container(pod: Tree) -> Tree:
    """The container that holds a card; the first where none does."""
    containers = list((pod / "containers").items())
    for each in containers:
        if (each / "resources" / "limits").at(*GPU) or (each / "resources" / "requests").at(*GPU):
            return each
    return containers[0] if containers else pod / "containers" / 0


def _mounts(container: Tree, volumes: Tree) -> Iterator[Mount]:
    behind = {}
    for volume in volumes.items():
        if name := (volume / "name").read(text):
            behind[name.value] = volume
    for mount in container.at("volumeMounts", "volume_mounts").items():
        path = mount.at("mountPath", "mount_path").read(text)
        name = (mount / "name").read(text)
        if path is None:
            continue
        volume = behind.get(name.value if name else "", Tree(None, {}))
        read_only = mount.at("readOnly", "read_only").value is True or _volume_read_only(volume)
        yield Mount(path.value, _storage(volume), path.where, read_only)


def _volume_read_only(volume: Tree) -> bool:
    return any((volume / kind).at("readOnly", "read_only").value is True for kind in ("csi", "gcs", "nfs")) or bool(
        volume / "secret" or volume.at("configMap", "config_map")
    )


def _storage(volume: Tree) -> Storage:
    driver = (volume / "csi" / "driver").value
    if volume / "gcs" or (isinstance(driver, str) and any(kind in driver for kind in ("gcsfuse", "s3", "blob"))):
        return "bucket"
    if volume / "nfs" or volume.at("persistentVolumeClaim", "persistent_volume_claim"):
        return "volume"
    if empty := volume.at("emptyDir", "empty_dir"):
        return "memory" if _in_memory(empty.value) else "scratch"
    return "scratch" if volume / "ephemeral" or volume / "secret" or volume.at("configMap") else "unknown"


def _in_memory(empty: Json) -> bool:
    if isinstance(empty, list):
        return any(map(_in_memory, empty))
    return isinstance(empty, dict) and str(empty.get("medium", "")).lower() == "memory"
