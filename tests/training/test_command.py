"""`vlcheck train` from the door to the exit code: the audit first, then the loop, one line for a user's mistake."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from tests.evaluation.conftest import SHIPPED

SHORT = (
    ("max_steps: 60", "max_steps: 2"),
    ("per_device_train_batch_size: 4", "per_device_train_batch_size: 1"),
    ("generated: shapes ", "generated: shapes\n  train_samples: 12\n  eval_samples: 12  "),
)
LANGUAGE_ONLY = ("target_modules: all-linear", "target_modules: .*language_model.*_proj")


def judging(*codes: str, folder: Path = Path()) -> None:
    """Have the project in a folder judge by these rules alone, where the audit is not what is tried."""
    (folder / "pyproject.toml").write_text(f"[tool.vlcheck]\nselect = {json.dumps(codes)}\n", "utf-8")


def test_a_sound_run_is_trained_evaluated_and_found(vlcheck, config):
    """Train, then evaluate the adapter; a second start has nothing to do, and one of other settings is refused."""
    file = config(*SHORT)
    code, out, err = vlcheck("train", file)
    assert (code, err) == (0, "")
    assert "audit: 0 errors, 0 warnings" in out
    assert "step 2/2  loss " in out
    summary = json.loads(Path("tiny-shapes/run.json").read_text())
    assert summary["steps"] == 2
    assert summary["versions"]["peft"]
    with Image.open("tiny-shapes/loss.png") as curve:
        assert curve.width > 200
    code, out, err = vlcheck("evaluate", file, "--adapter", "tiny-shapes/adapter")
    assert (code, err) == (0, "")
    assert "12" in out
    code, out, err = vlcheck("check-adapter", "tiny-shapes/adapter", file)
    assert code == 0, out + err
    judging("VLC901")
    assert vlcheck("train", file)[1].splitlines()[-1].startswith("nothing to do: ")
    code, _, err = vlcheck("train", config(*SHORT, ("learning_rate: 5.0e-3", "learning_rate: 1.0e-3")))
    assert code == 2
    assert "training.learning_rate: 0.005 there, 0.001 here; choose another training.output_dir" in err


def test_an_error_of_the_audit_stops_the_run(vlcheck, config):
    """Unless it is forced; then it is printed all the same, and another framework's run is trained by our loop."""
    judging("VLC402")
    code, out, err = vlcheck("train", config(*SHORT, LANGUAGE_ONLY))
    assert code == 1
    assert "error VLC402 vision-not-adapted" in out
    assert "--force starts the run all the same" in out
    assert not Path("tiny-shapes").exists()
    foreign = ("framework: vlcheck", "framework: llamafactory")
    code, out, err = vlcheck("train", config(*SHORT, LANGUAGE_ONLY, foreign), "--force")
    assert (code, err) == (0, "")
    assert "error VLC402 vision-not-adapted" in out
    assert Path("tiny-shapes/adapter/manifest.json").exists()


UNNAMED = ("  framework: vlcheck\n", "")


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        ('severity = { framework-unnamed = "error" }', "audit: 1 error, 0 warnings"),
        ('fail-on = "warning"', "audit: 0 errors, 1 warning"),
    ],
)
def test_a_project_says_what_stops_a_run(vlcheck, config, terms, told):
    """A warning does not, unless the project's severities or its `fail-on` say so; nothing else is judged."""
    file = config(*SHORT, UNNAMED)
    Path("pyproject.toml").write_text(f'[tool.vlcheck]\nselect = ["VLC901"]\n{terms}\n', "utf-8")
    code, out, err = vlcheck("train", file)

    assert (code, err) == (1, "")
    assert told in out
    assert "VLC901 framework-unnamed" in out
    assert "--force starts the run all the same" in out
    assert not Path("tiny-shapes").exists()


def test_a_project_s_baseline_lets_a_run_start(vlcheck, config):
    """What is known does not stop it; the file is as it was."""
    file = config(*SHORT, UNNAMED, ("output_dir: tiny-shapes", "output_dir: tiny.yaml/run"))
    project = '[tool.vlcheck]\nselect = ["VLC901"]\nfail-on = "warning"\n'
    Path("pyproject.toml").write_text(project, "utf-8")
    assert vlcheck("audit", file, "--write-baseline", "known.json")[0] == 0
    Path("pyproject.toml").write_text(f'{project}baseline = "known.json"\n', "utf-8")
    known = Path("known.json").read_text("utf-8")
    code, out, err = vlcheck("train", file)

    assert "audit: 0 errors, 0 warnings" in out
    assert (code, "tiny.yaml/run" in err) == (2, True)
    assert Path("known.json").read_text("utf-8") == known


def test_what_peft_refuses_cannot_be_forced(vlcheck, config):
    judging("VLC901")
    file = config(*SHORT, ("target_modules: all-linear", "target_modules: [q_proj]"))
    code, _, err = vlcheck("train", file, "--force")
    assert code == 2
    assert "Gemma4ClippableLinear" in err
    assert len(err.splitlines()) == 1


def test_unreadable_images_do_not_stop_it(vlcheck, config, tmp_path):
    """They are an error of the audit that the trainer deals with."""
    for number in range(12):
        place = tmp_path / "pictures" / "train" / ("red", "blue")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        Image.new("RGB", (64 + number, 64), ("red", "blue")[number % 2]).save(file, "PNG")
        (place / f"{number}.png").write_bytes(file.getvalue()[: 60 if number == 7 else None])
    config_file = config(
        SHORT[0], ("generated: shapes ", "path: pictures\n  max_unreadable: 0.2  "), ("  eval_split: test\n", ""),
    )  # fmt: skip
    code, out, err = vlcheck("train", config_file)
    assert (code, err) == (0, "")
    assert "left out: train/blue/7.png" in out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            ("optim: adamw_torch", "optim: adamw_torch\n  fp16: true"),
            "training.fp16 is True; vlcheck train allows",
        ),
        (("optim: adamw_torch", "optim: adamw_torch\n  fsdp: full_shard"), "training.fsdp is full_shard"),
        (("save_steps: 20", "save_strategy: best"), "training.save_strategy is best; vlcheck train allows: no, steps"),
        (("output_dir: tiny-shapes", "output_dir: tiny.yaml/run"), "tiny.yaml/run"),
        # what the loop refuses is held for each fault by test_faulty_data.py
        pytest.param(
            ("max_soft_tokens: 70", "max_soft_tokens: 70\n  max_length: 80"),
            "tokens after image expansion; allowed",
            marks=pytest.mark.slow,
        ),
        pytest.param(("train_split: train", "train_split: learn"), 'no split "learn"', marks=pytest.mark.slow),
    ],
)
def test_what_it_cannot_do_is_one_line(vlcheck, config, change, words):
    judging("VLC901")
    code, _, err = vlcheck("train", config(*SHORT, change), "--force")
    assert code == 2
    assert words in err
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_run_of_another_framework_is_refused(vlcheck, config, command):
    """Whose loop would run is said with the place; nothing is written."""
    code, out, err = vlcheck(command, config(*SHORT, ("framework: vlcheck", "framework: trl")))

    assert (code, out) == (2, "")
    assert "training.framework is trl: this run is meant for the loop of trl, and this command would run" in err
    assert err.count("\n") == 1
    assert "tiny.yaml:" in err
    assert not Path("tiny-shapes").exists()


def test_auto_batch_needs_a_card(vlcheck, config):
    code, _, err = vlcheck("train", config(*SHORT), "--auto-batch")
    assert code == 2
    assert "--auto-batch plans for a card" in err


def test_auto_batch_keeps_the_effective_batch(vlcheck, config):
    """On a card as large as a T4 the tiny run needs no accumulation."""
    judging("VLC302")
    file = config(*SHORT, ("intent:\n", "hardware:\n  gpu: t4\n\nintent:\n"))
    code, out, err = vlcheck("train", file, "--auto-batch")
    assert (code, err) == (0, ""), out
    assert "micro-batch 2, accumulation 1, checkpointing off" in out
    assert json.loads(Path("tiny-shapes/run.json").read_text())["settings"]["training.per_device_train_batch_size"] == 2


def test_trained_weights_never_meet_a_stand_in_tokenizer(vlcheck, config):
    """Without the real processor every id would be another word; the base is not even read."""
    judging("VLC901")
    code, _, err = vlcheck("train", config(*SHORT, ("  weights: random\n", ""), model=SHIPPED), "--force", "--offline")
    assert code == 2
    assert "trained weights cannot read another tokenizer's ids" in err


def test_a_patch_is_run_or_the_run_is_not_started(vlcheck, config):
    patched = ("dtype: float32", "dtype: float32\n  patch: some.where:apply")
    code, _, err = vlcheck("train", config(*SHORT, patched), "--force")
    assert code == 2
    assert "model.patch some.where:apply changes the model; run again with --allow-code" in err
