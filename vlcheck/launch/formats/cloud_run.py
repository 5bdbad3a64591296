"""A Cloud Run job: the YAML of its API's version 1, the JSON or YAML of version 2, and Terraform's plan of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vlcheck.finding import Json
from vlcheck.launch.formats.containers import container_fields
from vlcheck.launch.job import Job, Placed
from vlcheck.launch.quantities import seconds, text, whole
from vlcheck.launch.tree import Tree
from vlcheck.spec import ConfigError, Problem

NAME = "Cloud Run job"
RECOGNISED_BY = "`apiVersion: run.googleapis.com/v1`, or `template: {template: {containers: ...}}`, or a Terraform plan"
RESOURCE = "google_cloud_run_v2_job"
ACCELERATOR = "run.googleapis.com/accelerator"


def recognises(document: Mapping[str, Json]) -> bool:
    """Whether a document is a Cloud Run job, or a plan that has one."""
    version = document.get("apiVersion")
    if isinstance(version, str) and version.startswith("run.googleapis.com/"):
        return document.get("kind") == "Job"
    return _is_second(document) or _is_plan(document)


def read(tree: Tree) -> Job:
    """The job of a document.

    Raises:
        ConfigError: for a value that cannot be what it must be, or a plan without a job.
    """
    assert isinstance(tree.value, dict)
    if "apiVersion" in tree.value:
        return _first(tree)
    return _second(_planned(tree) if _is_plan(tree.value) else tree)


def _is_second(document: Mapping[str, Json]) -> bool:
    template = document.get("template")
    inner = template.get("template") if isinstance(template, dict) else None
    return isinstance(inner, dict) and "containers" in inner


def _is_plan(document: Mapping[str, Json]) -> bool:
    return "terraform_version" in document or bool({"planned_values", "resource_changes"} & set(document))


def _planned(tree: Tree) -> Tree:
    found = list(_resources(tree.down("planned_values", "root_module")))
    found = found or [
        change.down("change", "after")
        for change in (tree / "resource_changes").items()
        if (change / "type").value == RESOURCE and (change / "change" / "after")
    ]
    if not found:
        raise ConfigError(Problem(tree.where, f"the plan has no {RESOURCE}"))
    return found[0]


def _resources(module: Tree) -> Iterator[Tree]:
    """Jobs of a module and of its children; a plan nests no deeper than a document may."""
    for resource in (module / "resources").items():
        if (resource / "type").value == RESOURCE:
            yield resource / "values"
    for child in (module / "child_modules").items():
        yield from _resources(child)


def _first(tree: Tree) -> Job:
    execution = tree.down("spec", "template", "spec")
    task = execution.down("template", "spec")
    fields = container_fields(task)
    return Job(
        platform="cloud-run",
        where=tree.where,
        gpu=(task / "nodeSelector" / ACCELERATOR).read(text),
        timeout_seconds=(task / "timeoutSeconds").read(seconds),
        retries=(task / "maxRetries").read(whole),
        region=tree.down("metadata", "labels", "cloud.googleapis.com/location").read(text),
        tasks=(execution / "taskCount").read(whole),
        parallelism=(execution / "parallelism").read(whole),
        **fields,
    )


def _second(tree: Tree) -> Job:
    execution = tree / "template"
    task = execution / "template"
    fields = container_fields(task)
    region = (tree / "location").read(text)
    name = (tree / "name").value
    if region is None and isinstance(name, str) and "/locations/" in name:
        region = Placed(name.partition("/locations/")[2].partition("/")[0], (tree / "name").where)
    return Job(
        platform="cloud-run",
        where=tree.where,
        gpu=task.at("nodeSelector", "node_selector").down("accelerator").read(text),
        timeout_seconds=(task / "timeout").read(seconds),
        retries=task.at("maxRetries", "max_retries").read(whole),
        region=region,
        tasks=execution.at("taskCount", "task_count").read(whole),
        parallelism=(execution / "parallelism").read(whole) or None,
        **fields,
    )
