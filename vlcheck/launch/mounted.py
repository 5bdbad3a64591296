"""A config whose paths are those of its job's container: they are followed through its mounts, not looked for here."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass, field, replace
from typing import Any

from vlcheck.config.load import load
from vlcheck.finding import Json
from vlcheck.launch.job import Job
from vlcheck.model import catalogue
from vlcheck.spec import RunSpec

MODEL_KEYS = ("model_name_or_path", "base_model", "model")
"""Keys at a config's top that name its model."""


@dataclass
class MountedPaths:
    """What of a config lies under mounted folders, as it is found."""

    folders: tuple[str, ...]
    data: str | None = None
    """Path of the rows."""
    told: list[str] = field(default_factory=list)
    """What was made of paths, a sentence each."""

    def taken_out(self, document: dict[str, Json]) -> dict[str, Json]:
        """The document with the Hub's name for a mounted model, and without the path of mounted rows."""
        launch = document.get("launch")
        mounts = launch.get("mounts") if isinstance(launch, dict) else None
        self.folders += (
            tuple(folder for folder in mounts if isinstance(folder, str)) if isinstance(mounts, list) else ()
        )
        changed = dict(document)
        for key in MODEL_KEYS:
            if isinstance(named := document.get(key), str):
                changed[key] = self._model(named)
        model, data = document.get("model"), document.get("data")
        if isinstance(model, dict) and isinstance(named := model.get("id"), str):
            changed["model"] = {**model, "id": self._model(named)}
        if isinstance(data, dict) and isinstance(path := data.get("path"), str) and self._mounted(path):
            self.data = path
            changed["data"] = {key: value for key, value in data.items() if key != "path"}
            self.told.append(f"{path} lies on a mount of the job: its rows were not looked for here")
        return changed

    def _model(self, named: str) -> str:
        entry = catalogue.lookup(posixpath.normpath(named)) if self._mounted(named) else None
        if entry is None:
            return named
        self.told.append(f"{named} lies on a mount of the job and was taken for {entry.hub_id}")
        return entry.hub_id

    def _mounted(self, path: str) -> bool:
        return any(f"{path}/".startswith(f"{folder.rstrip('/')}/") for folder in self.folders)


def load_for(path: str | os.PathLike[str], job: Job | None = None, **options: Any) -> tuple[RunSpec, tuple[str, ...]]:
    """Read a config as `vlcheck.load` does, its paths being those of a job's container.

    Args:
        job: its mounts are those of the config; without it, `launch.mounts` are.
        options: of `vlcheck.load`.

    Returns:
        The run, and what was made of paths under mounts, a sentence each.

    Raises:
        ConfigError: as `vlcheck.load` does.
    """
    paths = MountedPaths(tuple(mount.path for mount in (job.mounts if job is not None else ())))
    spec = load(path, prepare=paths.taken_out, **options)
    if paths.data is not None:
        spec = replace(spec, data=replace(spec.data, path=paths.data))
    return spec, tuple(paths.told)
