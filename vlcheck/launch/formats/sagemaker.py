"""A SageMaker training job: the JSON of `create-training-job`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vlcheck.finding import Json
from vlcheck.launch.formats.containers import environment, words
from vlcheck.launch.formats.machines import times, with_instance
from vlcheck.launch.job import Job, Mount, Placed
from vlcheck.launch.quantities import seconds, switch, text, whole
from vlcheck.launch.tree import Tree

NAME = "SageMaker training job"
RECOGNISED_BY = "`TrainingJobName` or `AlgorithmSpecification`, with `ResourceConfig`"
CHECKPOINTS = "/opt/ml/checkpoints"
"""Folder that is kept in step with S3 where a checkpoint configuration names no other."""
RESULTS = ("/opt/ml/model", "/opt/ml/output")
"""Folders that are copied to S3 when the job ends."""


def recognises(document: Mapping[str, Json]) -> bool:
    """Whether a document is a training job."""
    return "ResourceConfig" in document and bool({"TrainingJobName", "AlgorithmSpecification"} & set(document))


def read(tree: Tree) -> Job:
    """The job of a document.

    Raises:
        ConfigError: for a value that cannot be what it must be.
    """
    algorithm, limit = tree / "AlgorithmSpecification", tree / "StoppingCondition"
    env, _ = environment(tree / "Environment")
    job = Job(
        platform="sagemaker",
        where=tree.where,
        timeout_seconds=(limit / "MaxRuntimeInSeconds").read(seconds),
        retries=tree.down("RetryStrategy", "MaximumRetryAttempts").read(whole),
        region=None,
        image=(algorithm / "TrainingImage").read(text),
        command=(
            *words(algorithm / "ContainerEntrypoint"),
            *words(algorithm / "ContainerArguments"),
            *_hyperparameters(tree / "HyperParameters"),
        ),
        env=env,
        mounts=tuple(_mounts(tree)),
        tasks=None,
        spot=(tree / "EnableManagedSpotTraining").read(switch),
    )
    resources = tree / "ResourceConfig"
    job = with_instance(job, (resources / "InstanceType").read(text), whole_machine=True)
    return times(job, (resources / "InstanceCount").read(whole))


def _hyperparameters(held: Tree) -> Iterator[Placed[str]]:
    """Hyperparameters as the flags that the training toolkit hands to the script."""
    for name, value in held.entries():
        if (said := value.read(text)) is not None and not name.startswith("sagemaker_"):
            yield Placed(f"--{name}={said.value.strip(chr(34))}", said.where)


def _mounts(tree: Tree) -> Iterator[Mount]:
    checkpoints = tree / "CheckpointConfig"
    if checkpoints / "S3Uri":
        path = (checkpoints / "LocalPath").read(text)
        yield Mount(path.value if path else CHECKPOINTS, "bucket", checkpoints.where)
    if tree / "OutputDataConfig":
        yield from (Mount(path, "bucket", (tree / "OutputDataConfig").where) for path in RESULTS)
