"""`vlcheck dry-run` on scripts and notebooks after public ones: each to its end, with exactly its findings."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integrations.rehearsal.data import working_folder

ROOT = Path(__file__).parents[3]
SCRIPTS = ROOT / "fixtures" / "scripts"
pytestmark = pytest.mark.slow
GONE = "SFTConfig of trl 1.16.0 takes no warmup_ratio"
QWEN = ("--dataset_use", "train.jsonl", "--output_dir", "out", "--bf16", "True", "--remove_unused_columns", "False")


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    folder = working_folder(tmp_path_factory.mktemp("work"))
    shutil.copy(SCRIPTS / "qwen-official.py", folder)  # its own modules lie beside it
    return folder


def dry_run(work: Path, *words: str) -> tuple[int, str, str, float]:
    """Exit code, report, what is said beside it, and seconds of the CPU."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    script = work / words[0] if (work / words[0]).exists() else SCRIPTS / words[0]
    done = subprocess.run(
        [sys.executable, "-m", "vlcheck", "dry-run", "--format", "json", str(script), *words[1:]],
        cwd=work, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.returncode, done.stdout, done.stderr, seconds


@pytest.mark.parametrize(
    ("words", "code", "errors", "told"),
    [
        (("newcomer.py",), 1, {"VLC207"}, ""),
        (("argparse-main.py", "--data", "train.jsonl"), 1, {"VLC207"}, ""),
        (("choices.py",), 0, set(), "torch.cuda.get_device_capability: answered"),
        (("accelerate-loop.py",), 0, set(), "DataLoader(num_workers=2): no process beside this one"),
        (("qwen-official.py", *QWEN), 0, set(), "attn_implementation='flash_attention_2': left out"),
        (("trl-gemma3-mmiu.py",), 1, {"VLC202", "VLC205"}, ""),
        (("cloud-run-1.py",), 1, {"VLC207"}, f"cloud-run-1.py:79: {GONE}"),
        (("cloud-run-3.py",), 1, {"VLC207", "VLC401"}, f"cloud-run-3.py:71: {GONE}"),
        (("cloud-run-4.py",), 1, {"VLC225"}, "cloud-run-4.py:87: KeyError: 'messages'"),
        (("smolvlm2-flags.ipynb",), 1, {"VLC006"}, "cell 2:1: left out: !pip install"),
    ],
    ids=lambda each: " ".join(each[:1] + each[3:]) if isinstance(each, tuple) else "",
)
def test_a_script_is_rehearsed_to_its_first_step(work, words, code, errors, told):
    """Under a minute and 4 GiB each; what replaced something, and what stops the run, is said."""
    ended, out, err, seconds = dry_run(work, *words)
    assert out, err
    outcomes = json.loads(out)["outcomes"]
    roots = {
        each["code"]
        for each in outcomes
        if each["verdict"] == "found" and each["severity"] == "error" and not each.get("explained_by")
    }
    assert (ended, roots) == (code, errors), err
    assert told in err
    assert seconds < 60
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 4 * 2**20, "KiB, of the largest so far"


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("unsloth-gemma3-vision.ipynb", "cell 3:1: the script needs unsloth, which is not installed here"),
        ("llava-lightning.py", "llava-lightning.py:2: the script needs lightning, which is not installed here"),
        ("google-gemma4-vision.ipynb", "cell 4:12: ValueError: No columns in the dataset match the model's forward"),
        ("cookbook-qwen2-vl.ipynb", "cell 9:3: TypeError: `train_dataset` must be a `Dataset`"),
        ("trl-sft-vlm.py", "trl-sft-vlm.py:8: ImportError: cannot import name 'get_kbit_device_map' from 'trl'"),
    ],
)
def test_what_cannot_run_with_these_packages_is_told_with_its_line(work, script, told):
    code, out, err, _ = dry_run(work, script)
    assert (code, out) == (2, "")
    assert told in err.splitlines()[-1], err
