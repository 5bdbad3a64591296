"""A run that is evaluated while it trains: its curve is the one without, and its best adapter is published."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
from PIL import Image
from safetensors.torch import load_file

from tests.training import crash
from tests.training.runs import Cut, digest, interrupted, run, small
from vlcheck.spec import ConfigError, Training
from vlcheck.training.checkpoint import OtherRun, verify
from vlcheck.training.course import BEST, Course
from vlcheck.training.order import Order
from vlcheck.training.record import METRICS, Bar, read_evaluations, read_metrics

FORKS = pytest.mark.skipif(sys.platform != "linux", reason="forks a process with imported libraries")
EVALUATED = {"eval_strategy": "steps", "eval_steps": 2, "gradient_accumulation_steps": 1}
BEST_KEPT = {**EVALUATED, "eval_steps": 1, "load_best_model_at_end": True}


def judged(folder, *, rows: int = 3, **training):
    """A run that is evaluated on a few rows."""
    spec = small(folder, **{**EVALUATED, **training})
    return replace(spec, data=replace(spec.data, eval_samples=rows))


def losses(folder) -> list[float]:
    return [values["loss"] for values in read_metrics(folder)]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A run's folder, and what it said."""
    said: list[str] = []
    folder = tmp_path_factory.mktemp("judged") / "run"
    run(judged(folder, run_name="colours", metric_for_best_model="accuracy"), said.append)
    return folder, said


def test_the_curve_is_the_one_without(tmp_path, told):
    """To the last bit, dropout included, though the model generates and changes its mode in between."""
    folder, _ = told
    run(small(tmp_path / "plain", gradient_accumulation_steps=1))
    assert losses(tmp_path / "plain") == losses(folder)
    assert digest(tmp_path / "plain") == digest(folder)


def test_an_evaluation_is_said_and_recorded(told):
    """Loss, accuracy, where the best is, and what the model answered to a few rows."""
    folder, said = told
    first, second = read_evaluations(folder)
    assert [first["step"], second["step"]] == [2, 4]
    assert all(each["eval_loss"] > 0 and 0 <= each["eval_accuracy"] <= 1 for each in (first, second))
    assert {sample["row"] for sample in first["samples"]} == {"test[0]", "test[1]", "test[2]"}
    assert any(line.startswith("evaluation behind step 2: loss ") and "accuracy 0.0%; 3 rows" in line for line in said)
    assert sum("test[0]: expected " in line and "answered" in line for line in said) == 2
    assert [values["step"] for values in read_metrics(folder)] == [1, 2, 3, 4]


def test_the_loss_is_the_mean_over_supervised_ids(told, tmp_path):
    """However the rows are put into batches."""
    folder, _ = told
    run(judged(tmp_path / "run", per_device_eval_batch_size=1))
    for ours, theirs in zip(read_evaluations(folder), read_evaluations(tmp_path / "run"), strict=True):
        assert ours["eval_loss"] == pytest.approx(theirs["eval_loss"], rel=1e-5)


@pytest.fixture(scope="module")
def best(tmp_path_factory):
    """A run whose learning rate makes it worse from its third step on, and which publishes its best."""
    folder = tmp_path_factory.mktemp("best") / "run"
    run(worsening(folder))
    return folder


def worsening(folder, **training):
    return judged(folder, learning_rate=20.0, warmup_steps=3, **{**BEST_KEPT, **training})


def test_the_best_adapter_is_published(best):
    """It is that of the step whose evaluation had the least loss, not the last one."""
    found = {values["step"]: values["eval_loss"] for values in read_evaluations(best)}
    least = min(found, key=lambda step: found[step])
    assert least < 4
    assert verify(best / "adapter").step == least
    published, last = load_file(best / "adapter" / "adapter_model.safetensors"), load_file(best / "checkpoint-4" / BEST)
    assert all((last[name] == tensor).all() for name, tensor in published.items())


def test_the_best_survives_an_interruption(tmp_path, best):
    """The resumed run publishes what the uninterrupted one published."""
    spec = worsening(tmp_path / "run")
    interrupted(spec, 2)
    assert run(spec).resumed_from == 2
    assert digest(tmp_path / "run") == digest(best)
    assert losses(tmp_path / "run") == losses(best)


def test_an_evaluation_that_was_cut_off_is_made_up_for(tmp_path, best, monkeypatch):
    """The step behind which it stood is on disk, its evaluation is not: the next process begins with it."""
    from vlcheck.training import evaluation

    spec, real, calls = worsening(tmp_path / "run"), evaluation.forward_loss, []

    def cut(*given, **named):
        calls.append(1)
        if len(calls) == 2:
            raise Cut
        return real(*given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(evaluation, "forward_loss", cut)
        with pytest.raises(Cut):
            run(spec)
    assert [values["step"] for values in read_evaluations(tmp_path / "run")] == [1]
    assert run(spec).resumed_from == 2
    assert [values["step"] for values in read_evaluations(tmp_path / "run")] == [1, 2, 3, 4]
    assert digest(tmp_path / "run") == digest(best)


@FORKS
def test_killed_in_an_evaluation(tmp_path):
    """By SIGKILL, at a forward pass of an evaluation; see `crash.py` for more of them."""
    found = list(crash.evaluation_trials(tmp_path, 1, steps=2))
    assert [each["identical"] for each in found] == [True], found
    assert found[0]["killed"]
    assert found[0]["lost"] <= crash.EVERY


@pytest.mark.slow
@FORKS
def test_killed_and_terminated_in_an_evaluation_30_times(tmp_path):
    found = list(crash.evaluation_trials(tmp_path, 30))
    assert [each for each in found if not each["identical"]] == []


def test_patience_ends_a_run(tmp_path):
    """And a second start goes on from there to nothing: the run is over."""
    spec = worsening(tmp_path / "run", early_stopping_patience=1, max_steps=20)
    said: list[str] = []
    trained = run(spec, said.append)
    assert trained.steps < 20
    assert any("stopped early behind step" in line for line in said)
    assert verify(tmp_path / "run" / "adapter").step == trained.steps - 1
    assert run(spec, said.append).adapter == trained.adapter
    assert said[-1].startswith("nothing to do: ")


@pytest.mark.parametrize(
    ("metric", "values", "at"),
    [("eval_loss", (3.0, 2.0, float("nan"), 2.0, 2.5), 2), ("accuracy", (0.1, 0.5, 0.5, 0.2, float("nan")), 2)],
)
def test_the_best_is_the_first_of_equals_and_a_number(metric, values, at):
    course = Course(Training(eval_strategy="steps", metric_for_best_model=metric, early_stopping_patience=3))
    for step, value in enumerate(values, 1):
        course.note(step, value, {})
    assert (course.best_step, course.worse, course.over) == (at, 3, True)


def test_evaluations_that_decide_nothing_may_change(parted):
    """They may come, go and move between an interruption and the resume."""
    spec = parted()
    spec = replace(spec, training=replace(spec.training, eval_strategy="epoch"))
    assert run(replace(spec, data=replace(spec.data, eval_samples=2))).resumed_from == 2


def test_evaluations_that_choose_the_adapter_may_not(parted):
    spec = parted()
    spec = replace(spec, training=replace(spec.training, eval_strategy="steps", load_best_model_at_end=True))
    with pytest.raises(OtherRun, match=r"data\.evaluation.*training\.load_best_model_at_end: unset there, true here"):
        run(replace(spec, data=replace(spec.data, eval_samples=2)))


@pytest.mark.parametrize(("every", "due"), [(2, {2, 4, 6, 8}), (0.5, {4, 8}), (3.7, {3, 6})])
def test_when_an_evaluation_is_due(every, due):
    from vlcheck.training.evaluation import due as is_due

    spec, order = judged("none", eval_steps=every), Order(4, 8, 1, 1, 1, seed=0)
    assert {step for step in range(9) if is_due(spec, order, step)} == due
    epochs = replace(spec, training=replace(spec.training, eval_strategy="epoch"))
    assert {step for step in range(9) if is_due(epochs, order, step)} == {4, 8}


@pytest.mark.parametrize(
    ("data", "training", "words"),
    [
        ({"eval_split": None}, {}, "data.eval_split is not set"),
        ({"eval_split": "dev"}, {}, 'no split "dev"'),
        (
            {},
            {"report_to": "wandb"},
            "training.report_to is wandb, which is not installed: pip install 'vlcheck[wandb]'",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_told_before_it_trains(tmp_path, data, training, words, monkeypatch):
    from vlcheck.training import trackers

    monkeypatch.setitem(trackers.PACKAGES, "wandb", ("no_such_module",))
    spec = judged(tmp_path / "run", **training)
    with pytest.raises(ConfigError, match=words.replace("[", r"\[").replace("]", r"\]")):
        run(replace(spec, data=replace(spec.data, **data)))
    assert not (tmp_path / "run").exists()


def test_a_row_that_cannot_be_evaluated_is_left_out(tmp_path):
    """It ends no run, and the others are evaluated."""
    spec = judged(tmp_path / "run", max_steps=2)
    from tests.training.runs import read_training_rows
    from vlcheck.data.conversation import Conversation, Picture, Turn

    rows = read_training_rows(spec, offline=True)
    bad = Conversation((Turn("user", (Picture(b"GIF89a", "broken.gif"), "?")), Turn("assistant", ("red",))), "row 7")
    placed = Conversation((rows.evaluation[0].turns[0], Turn("assistant", ("<|image|>",))), "row 8")
    run(spec, rows=replace(rows, evaluation=(*rows.evaluation, bad, placed)))
    (found,) = read_evaluations(tmp_path / "run")
    assert (found["rows"], found["left_out"]) == (5, 2)


def test_settings_that_need_evaluations_are_refused_without():
    with pytest.raises(ValueError, match="load_best_model_at_end needs evaluations"):
        Training(load_best_model_at_end=True)


def test_the_curve_is_there_while_the_run_goes_on(tmp_path):
    """With the evaluation's dots, in its place as a whole."""
    seen = []

    def say(line: str) -> None:
        if line.startswith("step 3/"):
            with Image.open(tmp_path / "run" / "loss.png") as picture:
                seen.append(picture.size)

    run(judged(tmp_path / "run", max_steps=3), say)
    assert len(seen) == 1
    assert not list((tmp_path / "run").glob(".loss*"))


@pytest.mark.parametrize("width", [80, 120])
def test_the_bar_shows_count_and_time_left(width):
    """At 80 columns too, whatever the numbers are; what does not fit is cut with dots."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    bar = Bar(60_000, console)
    values = {
        "loss": 12.34567, "images_per_second": 1234.5, "seconds_left": 123_456.0, "allocated_bytes": 80 * 2**30,
    }  # fmt: skip
    bar.step(12_345, values)
    bar.close()
    last = next(line for line in reversed(console.file.getvalue().splitlines()) if "loss" in line)
    assert "12345/60000" in last
    assert "left 1 day, 10:17:36" in last
    assert "loss 12.3457" in last
    assert console.measure(Text.from_ansi(last)).maximum <= width


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_resumed_steps_are_not_logged_twice(tmp_path, name, monkeypatch):
    """Accelerate's own trackers, where they are installed."""
    from accelerate import tracking

    pytest.importorskip(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    kind = {"tensorboard": tracking.TensorBoardTracker, "wandb": tracking.WandBTracker}[name]
    logged, log = [], kind.log

    def noting(self, values, step):
        logged.append((step, set(values)))
        log(self, values, step)

    monkeypatch.setattr(kind, "log", noting)
    spec = judged(tmp_path / "run", report_to=name)
    interrupted(spec, 2)
    run(spec)

    assert [step for step, keys in logged if "loss" in keys] == [1, 2, 3, 4]
    assert [step for step, keys in logged if "eval_loss" in keys] == [2, 4]
    if name == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
        assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4]
        assert "grad_norm/vision" in events.Tags()["scalars"]
    else:
        assert len(list(tmp_path.glob("run/wandb/offline-run-*"))) == 2


def test_each_step_is_handed_on_once(tmp_path):
    """Steps that an earlier process recorded are not, wherever the run is taken up."""
    from vlcheck.training.trackers import Trackers

    class Noted:
        def __init__(self) -> None:
            self.steps: list[int] = []

        def log(self, values, step: int) -> None:
            self.steps.append(step)

    trackers = Trackers((), tmp_path, "run", "key", {}, logged=3)
    noted = Noted()
    trackers._trackers.append(noted)
    for step in range(1, 7):
        trackers.log({"loss": 1.0}, step)
    assert noted.steps == [4, 5, 6]
    assert all(b - a == 1 for a, b in pairwise(noted.steps))


def test_evaluations_are_no_steps(tmp_path):
    (tmp_path / METRICS).write_text(
        '{"step": 1, "loss": 2}\n{"event": "evaluation", "step": 1, "eval_loss": 3, "loss": 1}\n'
        '{"event": "evaluation", "step": "x", "eval_loss": 3}\n{"event": "evaluation", "step": 2}\n'
    )
    assert [values["loss"] for values in read_metrics(tmp_path)] == [2]
    assert [json.dumps(values["eval_loss"]) for values in read_evaluations(tmp_path)] == ["3"]


def test_the_summary_tells_the_best_and_what_comes_next(told, best):
    """On the terminal, and in run.json, which alone tells what was trained."""
    folder, said = told
    closing = said[said.index(next(line for line in said if line.endswith("the adapter after 4 steps"))) + 1 :]
    assert closing[0].startswith("4 steps in 0:00:0")
    assert closing[1].startswith("best evaluation: step 2, loss ")
    assert closing[1].endswith("accuracy 0.0%; the adapter is the last step's")
    assert closing[-1] == f"next: vlcheck evaluate {recipe_file()} --adapter {folder / 'adapter'}"
    document = json.loads((best / "run.json").read_text())
    assert document["published"] == "the best evaluation's"
    assert document["best_evaluation"]["step"] == verify(best / "adapter").step
    assert document["last_evaluation"]["step"] == 4
    assert {"data.rows", "data.evaluation", "model.base", "model.processor"} <= document["identity"].keys()
    assert {"peak_allocated_bytes", "projected_bytes", "upper_bytes", "settings", "versions"} <= document.keys()


def recipe_file() -> str:
    from tests.training.runs import recipe

    return recipe().where("model.id").file


def test_a_summary_with_everything_known():
    """Numbers written by hand."""
    from vlcheck.training.summary import closing_lines

    document = {
        "trained_seconds": 7322.4, "steps": 60, "first_loss": 12.5, "last_loss": 7.25, "best_evaluation": None,
        "unreadable": [("a", "b")] * 3, "peak_allocated_bytes": 3 * 2**30, "projected_bytes": 2.5 * 2**30,
        "upper_bytes": 3.5 * 2**30, "cost": 4.077, "config": "pets.yaml", "adapter": "pets/adapter",
    }  # fmt: skip
    assert list(closing_lines(document)) == [
        "60 steps in 2:02:02; loss 12.5000 at first, 7.2500 at last",
        "3 rows were left out; they are listed in metrics.jsonl",
        "peak 3.0 GiB allocated, 2.5 GiB planned, at most 3.5 GiB",
        "cost 4.08, by hardware.price_per_hour",
        "next: vlcheck evaluate pets.yaml --adapter pets/adapter",
    ]
