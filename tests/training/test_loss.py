"""The loss is the mean over the supervised ids of the effective batch, however that is divided."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import traceback
from contextlib import nullcontext
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training import crash
from tests.training.runs import collator, parts, run, small
from vlcheck.data.conversation import Conversation, Turn
from vlcheck.engine import train_run
from vlcheck.model.build import Weights, base_of, build_model
from vlcheck.processing.labels import IGNORE_INDEX
from vlcheck.training import effective
from vlcheck.training.feed import collate_rows
from vlcheck.training.record import read_metrics
from vlcheck.training.rows import Rows, read_training_rows
from vlcheck.training.settings import settings_of
from vlcheck.training.setup import make_accelerator, wrapped
from vlcheck.training.step import forward_loss, micro_step, prepare, trainable

THOROUGH = settings.get_current_profile_name() == "thorough"
EXAMPLES, MOST_ROWS = (8, 4) if THOROUGH else (2, 2)
"""Logits of four rows over the whole vocabulary are 0.4 GB."""


@pytest.fixture(scope="module")
def model():
    spec = small("none")
    spec = replace(spec, lora=replace(spec.lora, lora_dropout=0.0))
    torch.manual_seed(0)
    built = build_model(spec, Weights.RANDOM, config=parts()["config"])
    prepare(built, settings_of(spec))
    with torch.no_grad():
        for parameter in trainable(built):
            parameter.add_(torch.randn_like(parameter) * 0.05)  # lora_B at zero would hide half of the gradients
    return built


def conversations(lengths):
    """Rows whose answers have this many words."""
    rows = read_training_rows(small("none"), offline=True).conversations
    words = ("red", "green", "blue", "yellow")
    return [
        Conversation((row.turns[0], Turn("assistant", (" ".join(words[n % 4] for n in range(length)),))), f"row {at}")
        for at, (row, length) in enumerate(zip(rows, lengths, strict=False))
    ]


def gradients(model, rows, micro_batch):
    """Gradients of a step over these rows, as the loop takes it; its loss."""
    model.zero_grad(set_to_none=True)
    make = collator(small("none"))
    micro = [collate_rows(make, rows[at : at + micro_batch]) for at in range(0, len(rows), micro_batch)]
    loss = 0.0
    for batch, share in effective.weighed(micro, sum(each.supervised for each in micro)):
        loss += float(micro_step(model, batch, supervised_only=True, context=nullcontext, share=share)) * share
    return loss, [p.grad.clone() for p in trainable(model)]


ROUNDING = 5e-5
"""Of fp32 sums in another order, relative to the gradient's norm."""


def distance(ours, theirs) -> float:
    """Norm of the difference of two gradients, relative to the first's."""
    apart = torch.cat([(a - b).flatten() for a, b in zip(ours, theirs, strict=True)]).norm()
    return float(apart / torch.cat([a.flatten() for a in ours]).norm())


@settings(max_examples=EXAMPLES)
@given(st.lists(st.integers(1, 12), min_size=4, max_size=4))
def test_accumulation_changes_nothing(model, lengths):
    """4 x 1 gives the gradients of 1 x 4, with answers of any lengths."""
    rows = conversations(lengths)
    loss, one = gradients(model, rows, 4)
    split_loss, four = gradients(model, rows, 1)
    assert split_loss == pytest.approx(loss, rel=1e-5)
    assert distance(one, four) < ROUNDING


def test_a_miscounted_loss_fails_its_law(model, monkeypatch):
    """Each micro-batch counts as a whole step, as where its mean is taken without dividing by their number."""
    law, own = test_accumulation_changes_nothing.hypothesis.inner_test, effective.weighed
    law(model, [1, 12, 3, 4])
    monkeypatch.setattr(
        effective, "weighed", lambda micro, supervised: [(batch, 1.0) for batch, _ in own(micro, supervised)]
    )
    with pytest.raises(AssertionError):
        law(model, [1, 12, 3, 4])


def test_equal_weight_of_micro_batches_would_be_noticed(model):
    """What a trainer does that averages each micro-batch by itself is far from the same gradient."""
    rows = conversations([1, 12, 1, 1])
    _, right = gradients(model, rows, 4)
    each = [gradients(model, [row], 1)[1] for row in rows]
    naive = [sum(found) / 4 for found in zip(*each, strict=True)]
    assert distance(right, naive) > 1_000 * ROUNDING


@settings(max_examples=EXAMPLES)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=MOST_ROWS))
def test_logits_where_a_label_needs_them(model, lengths):
    """Loss and gradients of full logits, to fp32 rounding."""
    batch = collator(small("none"))(conversations(lengths))
    found = []
    for supervised_only in (True, False):
        model.zero_grad(set_to_none=True)
        loss = forward_loss(model, batch, supervised_only=supervised_only)
        loss.backward()
        found.append((float(loss.detach()), [p.grad.clone() for p in trainable(model)]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    assert distance(found[0][1], found[1][1]) < ROUNDING


def test_no_logits_but_where_a_label_needs_them(model):
    """Rows whose answers stand at different places do not pay for each other's."""
    batch, seen = collator(small("none"))(conversations([1, 12])), []
    hook = base_of(model).get_output_embeddings().register_forward_hook(lambda *call: seen.append(call[2].shape))
    forward_loss(model, batch, supervised_only=True)
    hook.remove()
    supervised = batch["labels"] != IGNORE_INDEX
    assert len({tuple(row.nonzero().flatten().tolist()) for row in supervised}) == 2
    assert [shape[:2].numel() for shape in seen] == [int(supervised.sum())]


# two processes that meet at a free port; `--master_port 0` would let them wait for each other at port 0
LAUNCH = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]


def join(rank: int, port: int) -> None:
    """Make this process one of two that meet at a port."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # what this worker's own runs have left
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
        ACCELERATE_USE_CPU="true",
    )  # fmt: skip


def as_rank(rank: int, port: int, spec, **given) -> int:
    """Fork one of two processes that train a run together; returns its number."""
    if number := os.fork():
        return number
    try:
        join(rank, port)
        run(spec, **given)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def as_wrapper(rank: int, port: int) -> int:
    """Fork one of two processes that wrap a model whose tensors hold their rank; returns its number."""
    if number := os.fork():
        return number
    try:
        join(rank, port)
        for all_used in (True, False):
            model = torch.nn.ModuleDict({"frozen": torch.nn.Linear(2, 2), "trained": torch.nn.Linear(2, 2)})
            model.register_buffer("table", torch.full((2,), rank))
            for parameter in model.parameters():
                parameter.data.fill_(rank)
            model["frozen"].requires_grad_(False)
            called = wrapped(model, make_accelerator(small("none")), all_used=all_used)
            assert called.find_unused_parameters is not all_used
            assert model["frozen"].weight.eq(rank).all()
            assert model.table.eq(rank).all()
            assert model["trained"].weight.eq(0).all()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process with imported libraries")
def test_processes_synchronise_what_trains_and_nothing_else():
    """The first process's adapters are everyone's; frozen tensors are each one's own, and are not copied."""
    port = free_port()
    assert [crash.ended(number) for number in [as_wrapper(rank, port) for rank in range(2)]] == [0, 0]


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process with imported libraries")
def test_two_processes_give_the_curve_of_one(tmp_path):
    """DDP over gloo: the same losses, and the same adapter to fp32 rounding, with a row that has no image."""
    from safetensors.torch import load_file

    first, *others = read_training_rows(small("none"), offline=True).conversations
    rows = Rows((Conversation((Turn("user", ("Name a colour.",)), *first.turns[1:])), *others))

    def spec_of(name: str, accumulation: int):
        spec = small(tmp_path / name, gradient_accumulation_steps=accumulation, max_steps=2, warmup_steps=0)
        return replace(spec, lora=replace(spec.lora, lora_dropout=0.0))

    parts()
    run(spec_of("one", 4), rows=rows)
    port = free_port()
    ranks = [as_rank(rank, port, spec_of("two", 2), rows=rows) for rank in range(2)]
    assert [crash.ended(number) for number in ranks] == [0, 0]
    one, two = ([m["loss"] for m in read_metrics(tmp_path / name)] for name in ("one", "two"))
    assert len(one) == 2
    assert two == pytest.approx(one, rel=1e-5)
    first, second = (load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("one", "two"))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-3, atol=1e-5)


def as_command(rank: int, port: int, spec, told: Path) -> int:
    """Fork one of two processes that judge and train a run together, as the command does; returns its number."""
    if number := os.fork():
        return number
    try:
        join(rank, port)
        with told.open("w") as log:
            train_run(spec, offline=True, select=("VLC402",), say=lambda line: print(line, file=log))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process with imported libraries")
def test_two_processes_judge_once_and_share_the_pictures(tmp_path):
    """One audit, one log, and each step's pictures shared between the two."""
    spec = small(tmp_path / "run", max_steps=1)
    parts()
    port, told = free_port(), [tmp_path / f"told-{rank}" for rank in range(2)]
    ranks = [as_command(rank, port, spec, each) for rank, each in enumerate(told)]

    assert [crash.ended(number) for number in ranks] == [0, 0]
    assert told[0].read_text().count("audit: 0 errors") == 1
    assert told[1].read_text() == ""
    assert [m["images"] for m in read_metrics(tmp_path / "run")] == [4]


@pytest.mark.slow
def test_two_processes_of_the_command_are_one_run(tmp_path):
    """`vlcheck train` under a real launcher, as the two forked processes above."""
    text = (files("vlcheck") / "recipes" / "tiny.yaml").read_text("utf-8").replace("max_steps: 60", "max_steps: 2")
    (tmp_path / "tiny.yaml").write_text(text, "utf-8")
    own = {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, *LAUNCH, "-m", "vlcheck", "train", "tiny.yaml"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **own}, capture_output=True, text=True, check=False, timeout=300
    )

    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("audit: 0 errors") == 1
    assert [m["images"] for m in read_metrics(tmp_path / "tiny-shapes")] == [16, 16]


def test_the_curve_falls(tmp_path):
    trained = run(small(tmp_path, max_steps=8, per_device_train_batch_size=4, gradient_accumulation_steps=1))
    assert trained.last_loss < trained.first_loss - 0.3
