"""Project the runs of `tests/gpu/runs.py` with the packages that are installed here; one JSON line a run.

python -m tests.gpu.project_runs OUT.jsonl [--only settings] [--workers N] [--names PART]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.gpu.runs import RUNS, SETTINGS, Run


def project(run: Run) -> dict[str, Any]:
    import warnings

    import torch

    from vlcheck.gpus import gpu
    from vlcheck.memory.project import project_memory
    from vlcheck.model import catalogue
    from vlcheck.model.families import family_of

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    start = time.perf_counter()
    try:
        spec, config = run.spec(), catalogue.lookup(run.model).config
        plan = project_memory(spec, config, family_of(config), gpu("h100"), run.shape())
        figures = {
            "allocated_bytes": plan.allocated_bytes, "reserved_bytes": plan.reserved_bytes,
            "driver_bytes": plan.driver_bytes, "requested_bytes": plan.allocated_bytes - plan.of("allocator rounding"),
            "upper_bytes": plan.upper_bytes, "moment": plan.moment, "lines": [[x.cause, x.size] for x in plan.lines],
        }  # fmt: skip
        return {"name": run.name, "projected": figures, "seconds": round(time.perf_counter() - start, 2),
                "versions": {n: version(n) for n in ("torch", "transformers", "peft", "bitsandbytes")}}  # fmt: skip
    except Exception as error:
        import traceback

        return {
            "name": run.name,
            "error": f"{type(error).__name__}: {error}"[:500],
            "trace": traceback.format_exc()[-1500:],
        }


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--names", default="")
    arguments.add_argument("--only", choices=("", "settings"), default="")
    given = arguments.parse_args()
    wanted = [run for run in (SETTINGS if given.only else RUNS) if given.names in run.name]
    with multiprocessing.get_context("spawn").Pool(given.workers) as pool, given.out.open("w") as file:
        for row in pool.imap_unordered(project, wanted):
            file.write(json.dumps(row) + "\n")
            file.flush()


if __name__ == "__main__":
    main()
