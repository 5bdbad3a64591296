"""The live door in TRL's trainer, and in two processes that torch and accelerate launch."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integrations import live_samples as live
from tests.integrations.test_callback import trainer_of
from tests.training.test_loss import free_port
from vlcheck import RunCheckCallback, RunCheckFailed, Severity, check_run


def sft(folder: Path, split: bool, callbacks: list | None = None):
    """TRL's trainer over rows of messages, or with `split` of prompt and completion."""
    trl = pytest.importorskip("trl", reason="trl is not installed")
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    rows = live.rows()
    if split:
        rows = [{"prompt": row["messages"][:1], "completion": row["messages"][1:], "images": row["images"]}
                for row in rows]  # fmt: skip
    arguments = trl.SFTConfig(
        output_dir=str(folder), per_device_train_batch_size=2, max_steps=1, report_to="none", save_strategy="no",
        use_cpu=True, bf16=False, max_length=None, disable_tqdm=True,
    )  # fmt: skip
    return trl.SFTTrainer(
        model=live.base(),
        args=arguments,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=live.processor(),
        peft_config=live.lora(),
        callbacks=callbacks,
    )


def test_trl_s_collator_supervises_everything_by_default(tmp_path):
    """Its rows, columns dropped, and its collator; both doors say the same."""
    trainer = sft(tmp_path, split=False)

    report, here = check_run(trainer), this_line()

    (found,) = [o for o in report.found(Severity.ERROR) if not o.explained_by]
    assert found.rule.code == "VLC207"
    assert str(found.findings[0].where) == here
    assert report.spec.training.framework == "trl"
    trainer.add_callback(RunCheckCallback())
    with pytest.raises(RunCheckFailed, match="VLC207 everything-supervised") as stopped:
        trainer.train()
    assert f"{Path(here).parent}{os.sep}test_trl_and_processes.py:" in str(stopped.value)


def this_line() -> str:
    """Where it is called, as reports name places."""
    frame = sys._getframe(1)
    return f"{os.path.relpath(frame.f_code.co_filename)}:{frame.f_lineno}"


class Shifted:
    """A collator of one's own, its labels one place off."""

    def __init__(self, inner):
        self.inner = inner

    def __call__(self, rows):
        batch = self.inner(rows)
        return {**batch, "labels": batch["labels"].roll(1, dims=1)}


@pytest.mark.parametrize("wrap", [lambda each: each, functools.partial], ids=["object", "partial"])
def test_a_finding_names_the_line_of_one_s_own_code(tmp_path, wrap):
    """Labels: the collator's; all else: where the trainer was built, for a callback that is handed to it."""
    parts = live.sound()
    parts.collator = wrap(Shifted(parts.collator))
    looking = RunCheckCallback(None, rows=2, select=("VLC212",))
    trainer, here = trainer_of(parts, tmp_path, looking), this_line()
    held = {"model": trainer.model, "train_dataloader": trainer.get_train_dataloader()}
    looking.on_train_begin(trainer.args, None, None, processing_class=parts.processor, **held)

    (found,) = looking.reports[0].found(Severity.ERROR)
    line = Shifted.__call__.__code__.co_firstlineno
    assert str(found.findings[0].where) == f"{here.rpartition(':')[0]}:{line}"
    built = looking.reports[0].spec.where("lora.target_modules")
    assert Path(built.file).name == "test_callback.py"  # `trainer_of` there builds it


@pytest.mark.slow
def test_trl_with_prompt_and_completion_is_sound(tmp_path):
    looking = RunCheckCallback()

    sft(tmp_path, split=True, callbacks=[looking]).train()

    assert [len(report.found(Severity.WARNING)) for report in looking.reports] == [0, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("none", ("trained 2 of 2", "trained 2 of 2")),
        ("early", ("RunCheckFailed: vlcheck stopped", "RunCheckFailed: vlcheck stopped")),
        ("one", ("RuntimeError: vlcheck stopped this run on another process", "RunCheckFailed: vlcheck stopped")),
    ],
)
@pytest.mark.parametrize("launcher", ["torch", "accelerate"])
def test_two_processes_go_on_or_stop_together(tmp_path, fault, told, launcher):
    """Over gloo; what one of them finds stops both. With `--cpu`, `accelerate launch` asks for mpirun or starts one."""
    port = str(free_port())
    by = {
        "torch": ("torch.distributed.run", "--nproc-per-node", "2", "--master-port", port),
        "accelerate": ("accelerate.commands.accelerate_cli", "launch", "--multi_gpu", "--num_processes", "2",
                       "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
                       "--main_process_port", port),
    }  # fmt: skip
    subprocess.run(
        [sys.executable, "-m", *by[launcher], "-m", "tests.integrations.two_processes", str(tmp_path), fault],
        check=True, timeout=600, capture_output=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    said = [(tmp_path / f"rank-{rank}.txt").read_text() for rank in (0, 1)]
    assert [line.startswith(wanted) for line, wanted in zip(said, told, strict=True)] == [True, True], said
