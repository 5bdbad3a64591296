"""A script for two processes: trains two steps, or is stopped; says which in a file each."""

from __future__ import annotations

import sys
from pathlib import Path


def main(folder: Path, fault: str) -> None:
    from tests.integrations import live_samples as live
    from tests.integrations import test_planted_faults as planted
    from tests.integrations.test_callback import trainer_of
    from vlcheck import RunCheckCallback

    parts = live.sound()
    trainer = trainer_of(parts, folder, RunCheckCallback(rows=4), ddp_backend="gloo")
    rank = trainer.args.process_index
    if fault == "early":
        planted.early_optimizer(parts)
        trainer = trainer_of(parts, folder, RunCheckCallback(rows=4), ddp_backend="gloo")
    elif fault == "one" and rank == 1:  # what a process of its own has, all must stop for
        trainer.data_collator = lambda rows: {**parts.collator(rows), "labels": parts.collator(rows)["input_ids"]}
    try:
        trainer.train()
        told = f"trained {trainer.state.global_step} of {trainer.accelerator.num_processes}"
    except Exception as stopped:
        told = f"{type(stopped).__name__}: {stopped}"
    (folder / f"rank-{rank}.txt").write_text(told)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
