"""TensorBoard and Weights & Biases, through accelerate's trackers."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlcheck.spec import ConfigError, Problem, RunSpec
from vlcheck.training.ours import BOARD

PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",)}
"""By tracker: modules of which one must be installed."""
PROJECT = "vlcheck"
"""Of Weights & Biases, where WANDB_PROJECT names no other."""


def asked(spec: RunSpec) -> tuple[str, ...]:
    """Trackers that a run reports to."""
    named = spec.training.report_to
    return () if named is None else (named,) if isinstance(named, str) else tuple(named)


def check_trackers(spec: RunSpec) -> None:
    """Find out before anything is judged whether a run's trackers are installed.

    Raises:
        ConfigError: naming the one that is not, and what installs it.
    """
    for name in asked(spec):
        if not any(importlib.util.find_spec(module) for module in PACKAGES[name]):
            message = f"training.report_to is {name}, which is not installed: pip install 'vlcheck[{name}]'"
            raise ConfigError(Problem(spec.where("training.report_to"), message))


class Trackers:
    """What gets every step of a run, once.

    Args:
        folder: of the run.
        title: the run's name.
        key: tells the run from all others, and is the same when it is resumed.
        settings: of the run, flat.
        logged: the last step that an earlier process of this run has recorded; none up to it is logged again.
    """

    def __init__(
        self, names: tuple[str, ...], folder: Path, title: str, key: str, settings: Mapping[str, Any], logged: int
    ) -> None:
        self._logged, self._trackers = logged, [_start(name, folder, title, key, settings) for name in names]

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Hand a step's numbers on, unless that was done before the run was resumed."""
        if step > self._logged:
            for tracker in self._trackers:
                tracker.log(dict(values), step=step)

    def finish(self) -> None:
        """Close them."""
        for tracker in self._trackers:
            tracker.finish()


def _start(name: str, folder: Path, title: str, key: str, settings: Mapping[str, Any]) -> Any:
    from accelerate.tracking import TensorBoardTracker, WandBTracker

    if name == "tensorboard":
        tracker = TensorBoardTracker(BOARD, logging_dir=str(folder))
        tracker.start()
        return tracker
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    tracker = WandBTracker(project, name=title, id=key, resume="allow", dir=str(folder))
    tracker.start()
    tracker.store_init_configuration(dict(settings))
    return tracker
