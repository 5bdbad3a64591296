"""A SkyPilot task."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from vlcheck.config.reading.shell_words import read_commands
from vlcheck.finding import Json
from vlcheck.launch.formats.containers import environment
from vlcheck.launch.formats.machines import times
from vlcheck.launch.image import installed_by
from vlcheck.launch.job import Job, Mount, Placed, Storage
from vlcheck.launch.quantities import cpus, gibibytes, switch, text, whole
from vlcheck.launch.tree import Tree

NAME = "SkyPilot task"
RECOGNISED_BY = "`resources:` beside `run:` or `setup:`"
WORKDIR = "~/sky_workdir"
"""Where the commands start, and where `workdir` is copied to."""


def recognises(document: Mapping[str, Json]) -> bool:
    """Whether a document is a SkyPilot task."""
    return "resources" in document and bool({"run", "setup", "file_mounts", "num_nodes"} & set(document))


def read(tree: Tree) -> Job:
    """The job of a document; of several kinds of resources the first.

    Raises:
        ConfigError: for a value that cannot be what it must be.
    """
    resources = tree / "resources"
    either = next((each for key in ("any_of", "ordered") for each in (resources / key).items()), Tree(None, {}))

    def asked(key: str) -> Tree:
        return either / key if either / key else resources / key

    gpu, count = _accelerator(asked("accelerators"))
    env, _ = environment(tree / "envs")
    _, secrets = environment(tree / "secrets")
    brought = [installed_by(part.value, part.where) for part in (tree / "setup", tree / "run")
               if isinstance(part.value, str)]  # fmt: skip
    remarks = [f"resources of {key} were read by their first entry" for key in ("any_of", "ordered") if resources / key]
    remarks += [
        f"{file.value}, from which the job installs packages, was not read; name it with --requirements"
        for part in brought
        for file in part.files
    ]
    job = Job(
        platform="skypilot",
        where=tree.where,
        gpu=gpu,
        gpu_count=count,
        cpu=asked("cpus").read(cpus),
        memory_bytes=asked("memory").read(gibibytes),
        disk_bytes=asked("disk_size").read(gibibytes),
        retries=_restarts(asked("job_recovery")),
        region=asked("region").read(text),
        image=asked("image_id").read(text),
        workdir=Placed(WORKDIR, tree.where),
        command=tuple(_commands(tree / "run")),
        env=env,
        secrets=secrets or tuple(name for name, _ in (tree / "secrets").entries()),
        mounts=tuple(_mounts(tree)),
        spot=asked("use_spot").read(switch),
        requirements=tuple(each for part in brought for each in part.requirements),
        remarks=tuple(remarks),
    )
    return times(job, (tree / "num_nodes").read(whole))


def _accelerator(asked: Tree) -> tuple[Placed[str] | None, Placed[int] | None]:
    """`H100:8`, `{H100: 8}`, or a list of either, of which the first counts."""
    if isinstance(asked.value, list):
        asked = asked / 0
    if isinstance(asked.value, dict):
        for name, count in asked.entries():
            return Placed(name, count.where), count.read(whole) or Placed(1, count.where)
        return None, None
    said = asked.read(text)
    if said is None:
        return None, None
    name, colon, number = said.value.partition(":")
    return Placed(name, said.where), Tree(number if colon else 1, {"": said.where}).read(whole)


def _restarts(recovery: Tree) -> Placed[int] | None:
    return (recovery / "max_restarts_on_errors").read(whole) if isinstance(recovery.value, dict) else None


def _commands(run: Tree) -> Iterator[Placed[str]]:
    """Words of the commands in `run`, a flag's place being that of the whole."""
    if isinstance(run.value, str):
        for words in read_commands(run.value):
            yield from (Placed(word.text, run.where) for word in words)


def _mounts(tree: Tree) -> Iterator[Mount]:
    for path, mount in (tree / "file_mounts").entries():
        mode = str((mount / "mode").value or "").upper()
        bucket = isinstance(mount.value, dict) and mode != "COPY"  # MOUNT is the mode of a store that names none
        storage: Storage = "bucket" if bucket else "scratch"
        if re.match(r"[~/]", path):
            yield Mount(path, storage, mount.where)
    for path, volume in (tree / "volumes").entries():
        yield Mount(path, "volume", volume.where)
