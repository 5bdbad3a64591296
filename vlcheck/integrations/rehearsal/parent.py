"""Run a script's rehearsal in a child process that cannot outlive its limits."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

KEPT = 64 * 1024
"""Bytes of the script's own output that are kept, its last."""


@dataclass(frozen=True)
class Rehearsal:
    """How a script's rehearsal went."""

    reports: Mapping[str, str]
    """The report in each format that was asked for; none where the first step was not reached."""
    code: int
    """Exit code of the report; 2 without one."""
    failure: str
    """Why there is no report."""
    replaced: tuple[str, ...]
    refused: tuple[str, ...]
    output: str
    """The last that the script wrote."""


def rehearse(
    script: Path,
    arguments: Sequence[str],
    *,
    seconds: int,
    memory_gib: float,
    rows: int,
    options: dict[str, Any],
) -> Rehearsal:
    """Run a script up to its first step, offline, with a model in miniature, and judge what it holds there.

    It runs in a folder of its own, in which the files of the working folder are links; that folder is gone afterwards.

    Args:
        arguments: of the script.
        seconds: the process and all that it started are killed then.
        memory_gib: of data a process.
        rows: of each split of the data, at most.
        options: `forms`, `fail_on`, `strict`, `select` and `ignore` of the report; `gpu` and `memory_gib` of the card;
            `home`, the folder that paths are relative to.
    """
    with tempfile.TemporaryDirectory(prefix="vlcheck-dry-run-") as name:
        scratch = Path(name).resolve()
        settings = {
            "script": str(script.resolve()), "shown": str(script), "arguments": list(arguments),
            "scratch": str(scratch), "rows": rows, "seconds": seconds, "options": options,
            "memory_bytes": int(memory_gib * 2**30),
        }  # fmt: skip
        output, late = run_child(
            [sys.executable, "-P", "-m", "vlcheck.integrations.rehearsal.child", json.dumps(settings)], scratch, seconds
        )
        try:
            told = json.loads((scratch / "result.json").read_text("utf-8"))
        except (OSError, ValueError):
            told = {"failure": _died(late, seconds, memory_gib)}
    return Rehearsal(
        {str(form): str(text) for form, text in dict(told.get("reports", {})).items()},
        int(told.get("code", 2)),
        str(told.get("failure", "")),
        tuple(map(str, told.get("replaced", ()))),
        tuple(map(str, told.get("refused", ()))),
        output,
    )


def run_child(command: list[str], scratch: Path, seconds: int) -> tuple[str, int | None]:
    """The last of the output, and how the process ended; None where its time was over."""
    folder = scratch / "folder"
    folder.mkdir()
    for entry in Path.cwd().iterdir():
        (folder / entry.name).symlink_to(entry)
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=_environment(scratch),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    kept: deque[bytes] = deque()
    assert process.stdout is not None, "it was asked for"
    reader = threading.Thread(target=_keep, args=(process.stdout, kept), daemon=True)
    reader.start()
    ended: int | None
    try:
        ended = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        ended = None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # forks of it too
        process.wait()
    reader.join(timeout=5)
    return b"".join(kept)[-KEPT:].decode("utf-8", "replace"), ended


def _keep(stream: IO[bytes], kept: deque[bytes]) -> None:
    """Read to the end, and hold the last of it."""
    held = 0
    for block in _blocks(stream):
        kept.append(block)
        held += len(block)
        while held - len(kept[0]) > KEPT:
            held -= len(kept.popleft())


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    while block := os.read(stream.fileno(), 65536):
        yield block


def _environment(scratch: Path) -> dict[str, str]:
    """Offline, without a GPU, with every cache that is written inside the folder."""
    own = {
        "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "",
        "HF_DATASETS_CACHE": str(scratch / "datasets"), "TMPDIR": str(scratch),
        "XDG_CACHE_HOME": str(scratch / "cache"), "ACCELERATE_USE_CPU": "true",
        "MPLCONFIGDIR": str(scratch / "matplotlib"), "TRITON_CACHE_DIR": str(scratch / "triton"),
        "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "WANDB_DIR": str(scratch),
        "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    secret = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")
    kept = {name: value for name, value in os.environ.items() if name not in secret}
    return {**kept, **own}


def _died(ended: int | None, seconds: int, memory_gib: float) -> str:
    if ended is None:
        return f"the script did not reach its first step within {seconds} s, and was killed with all that it started"
    if ended < 0:
        return f"the script's process was killed by signal {-ended}; it may have {memory_gib:g} GiB"
    return f"the script's process ended with code {ended} before its first step"
