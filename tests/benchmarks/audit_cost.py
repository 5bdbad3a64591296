"""Time and memory of whole commands, each in a process of its own, beside the import floor.

usage: python -m tests.benchmarks.audit_cost [REPEATS] [--models]

With --models: an `all-linear` NF4 audit of every model in the catalogue instead.

The floor imports torch, transformers, peft, bitsandbytes and the Gemma 4 class, and does nothing; an audit needs all of
them, but for the compiler that bitsandbytes asks for (`vlcheck.model.uncompiled`). Prints one JSON line a command: the
median of its seconds, of the floor's in the same rounds, their difference and quotient, and the largest resident
memory.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vlcheck.model import catalogue

ROOT = Path(__file__).parents[2]
FLOOR = [
    "-c",
    "import torch, transformers, peft, bitsandbytes; from transformers import Gemma4ForConditionalGeneration",
]
COMMANDS = {
    "audit gemma4-31b-pet": ["-m", "vlcheck", "audit", "vlcheck/recipes/gemma4-31b-pet.yaml"],
    "audit gemma4-e4b-pet": ["-m", "vlcheck", "audit", "vlcheck/recipes/gemma4-e4b-pet.yaml"],
    "--help": ["-m", "vlcheck", "--help"],
    "rules": ["-m", "vlcheck", "rules"],
    "explain VLC103": ["-m", "vlcheck", "explain", "VLC103"],
    "config error": ["-m", "vlcheck", "audit", "pyproject.toml"],
    "schema": ["-m", "vlcheck", "schema"],
}


def main() -> None:
    """Run every command `REPEATS` times, the floor between them."""
    repeats = next((int(argument) for argument in sys.argv[1:] if argument.isdigit()), 3)
    with tempfile.TemporaryDirectory() as folder:
        measure(models(Path(folder)) if "--models" in sys.argv else COMMANDS, repeats)


def models(folder: Path) -> dict[str, list[str]]:
    """One audit of every catalogue model, all-linear on an NF4 base."""
    commands = {}
    for entry in catalogue.entries():
        config = folder / f"{entry.hub_id.partition('/')[2]}.yaml"
        config.write_text(
            f"model: {{id: {entry.hub_id}}}\nlora: {{r: 64, target_modules: all-linear}}\n"
            "quantization: {load_in_4bit: true, bnb_4bit_quant_type: nf4, bnb_4bit_use_double_quant: true}\n"
            "training: {gradient_checkpointing: true}\n"
        )
        commands[f"audit {entry.hub_id}"] = ["-m", "vlcheck", "audit", str(config)]
    return commands


def measure(commands: dict[str, list[str]], repeats: int) -> None:
    """Print one line a command, the floor measured in the same rounds."""
    for name, command in commands.items():
        runs = [(cost(FLOOR), cost(command)) for _ in range(repeats)]
        floor = statistics.median(seconds for (seconds, _), _ in runs)
        spent = statistics.median(seconds for _, (seconds, _) in runs)
        print(
            json.dumps(
                {
                    "command": name,
                    "seconds": round(spent, 2),
                    "import_floor_seconds": round(floor, 2),
                    "above_floor_seconds": round(spent - floor, 2),
                    "times_floor": round(spent / floor, 2),
                    "resident_gib": round(max(peak for _, (_, peak) in runs) / 2**30, 2),
                }
            ),
            flush=True,
        )


def cost(command: list[str]) -> tuple[float, int]:
    """Seconds and largest resident bytes of one process."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    _, _, usage = os.wait4(process.pid, 0)
    return time.perf_counter() - start, usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()
