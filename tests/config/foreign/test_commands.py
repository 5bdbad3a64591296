"""A shell script's training command: the launcher, the program and its flags, each at its place; nothing is run."""

from __future__ import annotations

import pytest

from vlcheck.config.load import load
from vlcheck.spec import ConfigError

FLAGS = "--model_name_or_path google/gemma-3-4b-it --use_peft --lora_target_modules all-linear"
SCRIPT = """#!/bin/bash
set -e
MODEL="Qwen/Qwen2.5-VL-7B-Instruct"
export GPUS=4
ARGS=(
  --lora_r 32   # a rank
  --lora_target_modules q_proj v_proj
)
CUDA_VISIBLE_DEVICES=0,1 torchrun --nproc_per_node=$GPUS \\
    examples/scripts/sft_vlm.py \\
    --model_name_or_path "$MODEL" \\
    --output_dir "out/$(date +%s)" \\
    --learning-rate ${LR:-1e-4} --use_peft "${ARGS[@]}" \\
    --gradient_checkpointing_kwargs '{"use_reentrant": true}' > log.txt 2>&1
"""


@pytest.fixture
def read(tmp_path):
    """Read a script."""

    def read(text: str, name: str = "train.sh"):
        (tmp_path / name).write_text(text)
        return load(tmp_path / name)

    return read


def refusal(read, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    (problem,) = caught.value.problems
    return f"{problem.where.line}:{problem.where.column}: {problem.message}"


@pytest.mark.parametrize(
    ("written", "count"),
    [
        ("$((16 / BATCH))", 8), ("$(( 2*(BATCH + $BATCH) ))", 8), ("$((BATCH*3%4))", 2), ("$(expr 16 / $BATCH)", 8),
        (r"`expr $BATCH \* 4`", 8), ("$(expr $BATCH '*' ${BATCH})", 4),
    ],
)  # fmt: skip
def test_whole_numbers_are_reckoned_with(read, written, count):
    """As the shell does, from what the script assigns."""
    spec = read(f'BATCH=2\npython sft.py {FLAGS} --gradient_accumulation_steps {written} --lora_r 4 "$@"\n')

    assert (spec.training.gradient_accumulation_steps, spec.lora.r) == (count, 4)
    assert spec.origin.unread == ()
    assert any(told.endswith('hands on what it is given ("$@"), and was judged as it stands')
               for told in spec.origin.assumed)  # fmt: skip


@pytest.mark.parametrize(
    "written", ["$((16 / GPUS))", "$((BATCH ** 99999))", "$((1 / 0))", "$((BATCH", "$(expr length abc)", "$((010))"]
)
def test_what_only_the_shell_reckons_is_left_open(read, written):
    spec = read(f"BATCH=2\npython sft.py {FLAGS} --gradient_accumulation_steps {written}\n")

    (unread,) = spec.origin.unread
    assert unread.message.endswith("is known only when the script runs")


def test_a_script_becomes_the_run_that_it_starts(read):
    """Variables and lists that the script assigns are put in; each value stands where it was written."""
    spec = read(SCRIPT)
    where = spec.where("lora.target_modules.1")

    assert (spec.model.id, spec.lora.r, spec.lora.target_modules) == (
        "Qwen/Qwen2.5-VL-7B-Instruct",
        32,
        ("q_proj", "v_proj"),
    )
    assert (spec.training.learning_rate, spec.training.reentrant, spec.hardware.count) == (1e-4, True, 4)
    assert (where.line, where.column, where.key) == (7, 32, "lora_target_modules.1")
    assert spec.where("training.reentrant").line == 10
    assert spec.where("training.gradient_checkpointing_kwargs").line == 14


def test_what_trls_own_script_sets_is_said(read):
    """`sft_vlm.py` has no limit on the length, whatever the flags say; `trl sft` has TRL's."""
    spec = read(SCRIPT)

    assert spec.data.max_length is None
    assert spec.origin.assumed == (
        "examples/scripts/sft_vlm.py was read as TRL's own script, which sets max_length to null",
    )
    assert read(f"trl sft {FLAGS}").data.max_length == 1024


@pytest.mark.parametrize("launcher", ["python", "accelerate launch", "uv run", "torchrun", "trl sft"])
def test_launchers(read, launcher):
    """Whatever starts it, the flags are the program's."""
    spec = read(f"{launcher} {'' if launcher == 'trl sft' else 'sft.py '}{FLAGS}\n", "train.sh")

    assert spec.lora.target_modules == "all-linear"


def test_a_config_that_the_command_names_is_read_and_outranked(read, tmp_path):
    (tmp_path / "sft.yaml").write_text("model_name_or_path: a/b\nuse_peft: true\nlora_r: 4\n")
    spec = read("trl sft --config sft.yaml --lora_r 8\n")

    assert (spec.model.id, spec.lora.r) == ("a/b", 8)
    assert spec.where("model.id").file == str(tmp_path / "sft.yaml")
    assert spec.where("lora.r").file == str(tmp_path / "train.sh")


def test_what_only_running_would_tell_is_not_understood(read):
    """A value from outside: not guessed, and told."""
    spec = read(f"trl sft {FLAGS} --lora_r $RANK --output_dir $OUT\n")
    (unread,) = spec.origin.unread

    assert spec.lora.r == 16
    assert unread.message == 'lora_r: "$RANK" is known only when the script runs'
    assert refusal(read, "trl sft --model_name_or_path $MODEL --use_peft\n") == (
        '1:9: model_name_or_path is "$MODEL", which the script does not assign'
    )


def test_of_several_trainings_the_first_is_judged(read):
    spec = read(f"trl sft {FLAGS}\ntrl sft {FLAGS} --lora_r 8\n")

    assert spec.lora.r == 16
    assert spec.origin.assumed[0].endswith("starts 2 trainings, and the first was judged; the others are on line 2")


@pytest.mark.parametrize("name", ["command", "run.txt", "train.slurm"])
def test_a_script_is_told_by_its_first_command(read, name):
    """Without a first line or a name that says so."""
    assert read(f"# a comment\n\nX=1\nexport Y=2\nZ=3 trl sft {FLAGS}\n", name).lora.target_modules == "all-linear"


@pytest.mark.parametrize("start", ["\n", " ", " \n", "# x\n", "A=b\n", "a" * 9, "A=b ", "[[", "{\n", "'"])
def test_what_begins_long_is_told_soon(read, start):
    """No pattern takes more than a look at the head of a file."""
    with pytest.raises(ConfigError):
        read(start * (40_000 // len(start)), "run.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#!/bin/sh\necho hello\n", "1:1: is a shell script without a training command; allowed: `trl sft`, or TRL's"),
        (
            "#!/bin/sh\npython train.py --lr 1\n",
            "2:8: starts train.py, whose flags are that program's own and are not read yet; allowed: `trl sft`, or",
        ),
    ],
)
def test_a_script_without_such_a_command_is_refused_in_one_line(read, text, message):
    assert refusal(read, text).startswith(message)


@pytest.mark.parametrize(
    "text", ["trl sft --a $(rm -rf /tmp/x) `touch y`", 'trl sft "', "trl sft ${", "X=(", "\\", "$("]
)
def test_nothing_is_run_and_nothing_hangs(read, text, tmp_path):
    """Broken quotes, open lists, substitutions."""
    with pytest.raises(ConfigError):
        read(f"#!/bin/sh\n{text}")
    assert [path.name for path in tmp_path.iterdir()] == ["train.sh"]
