"""Whether a run was judged before: its folder holds what a process of the same settings and versions has left."""

from __future__ import annotations

import json
from pathlib import Path

from vlcheck.spec import RunSpec
from vlcheck.training.identity import CONTENT, identity_of
from vlcheck.training.manifest import BrokenCheckpoint, Manifest, read_manifest
from vlcheck.training.ours import ADAPTER_FOLDER, folders
from vlcheck.training.snapshot import STATE
from vlcheck.versions import installed


def begun_before(spec: RunSpec) -> bool:
    """Whether a process has begun, or finished, this very run in its output folder, on the versions of now.

    Settings are compared here. Whether rows, base, processor and patch are the same is found out when the run is
    taken up, which is refused where they are not.
    """
    root = Path(spec.training.output_dir).expanduser()
    newest = folders(root)[:1]
    for folder in (root / ADAPTER_FOLDER, *newest):
        try:
            manifest = read_manifest(folder)
        except BrokenCheckpoint:
            continue
        if same_settings(spec, manifest):
            return folder.name == ADAPTER_FOLDER or _same_circumstances(spec, folder / STATE)
    return False


def same_settings(spec: RunSpec, manifest: Manifest) -> bool:
    """Whether a run of these settings wrote a checkpoint, whatever it learnt from."""
    theirs = manifest.identity
    content = {name: theirs[name] for name in CONTENT if name in theirs}
    return identity_of(spec, theirs.get("effective_batch", 0), content) == theirs


def _same_circumstances(spec: RunSpec, state: Path) -> bool:
    """Versions, and how the effective batch is divided, on which the memory plan hangs."""
    try:
        kept = json.loads(state.read_text("utf-8"))
        micro, accumulation, *_ = kept["split"]
        versions = kept["versions"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False
    training = spec.training
    split = (training.per_device_train_batch_size, training.gradient_accumulation_steps)
    return bool((micro, accumulation) == split and versions == installed())
