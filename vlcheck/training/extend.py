"""Go on from a finished run: a longer run of the same settings, in a folder of its own.

The finished run stays as it is, so that the same command can be started again however often it is interrupted.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from vlcheck.spec import ConfigError, Problem, RunSpec
from vlcheck.training.begun import same_settings
from vlcheck.training.manifest import BrokenCheckpoint, read_manifest
from vlcheck.training.ours import ADAPTER_FOLDER, folders

LENGTH = ("training.max_steps", "training.num_train_epochs")
"""Settings in which a longer run differs."""
_ASKED = re.compile(r"([1-9][0-9]{0,8}) ?(steps?|epochs?)?")


def extended(spec: RunSpec, asked: str) -> tuple[RunSpec, Path]:
    """A longer run, and the checkpoint of the finished one that it goes on from.

    Args:
        asked: more of it: `20`, `20 steps` or `2 epochs`.

    Returns:
        The run with its new length, whose folder lies beside the finished one's; the newest checkpoint of that one.

    Raises:
        ConfigError: if there is no finished run of these settings, its last step's checkpoint is gone, or epochs are
            asked of a run that counts steps.
    """
    match = _ASKED.fullmatch(asked.strip())
    if match is None:
        raise _refusal(spec, f"--extend is {asked!r}; allowed: more steps or epochs, for example 20 or '2 epochs'")
    root, training = Path(spec.training.output_dir).expanduser(), spec.training
    try:
        done = read_manifest(root / ADAPTER_FOLDER)
        last = read_manifest(newest := folders(root)[0])
    except (BrokenCheckpoint, IndexError) as none:
        raise _refusal(spec, f"--extend goes on from a finished run and its checkpoint; {root} lacks one") from none
    if not (same_settings(spec, done) and same_settings(spec, last)):
        raise _refusal(spec, f"--extend goes on from a run of the same settings; {root} holds another one")
    if last.step < done.step:
        raise _refusal(spec, f"--extend needs the state behind step {done.step}; {newest} is older")
    more = int(match[1])
    if (match[2] or "").startswith("epoch"):
        if training.max_steps > 0:
            raise _refusal(spec, f"--extend {asked}: this run counts steps (training.max_steps); say how many more")
        longer = replace(training, num_train_epochs=training.num_train_epochs + more)
        suffix = f"{longer.num_train_epochs:g}-epochs"
    else:
        longer = replace(training, max_steps=last.step + more)
        suffix = f"{longer.max_steps}-steps"
    return replace(spec, training=replace(longer, output_dir=f"{training.output_dir.rstrip('/')}-{suffix}")), newest


def _refusal(spec: RunSpec, message: str) -> ConfigError:
    return ConfigError(Problem(spec.where("training.output_dir"), message))
