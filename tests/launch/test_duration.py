"""How long a step takes: projected times within their own band of measured ones, and the parts of a job."""

from __future__ import annotations

import json
import statistics
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

import vlcheck
from tests.gpu.runs import RUNS
from tests.launch.runs import HOST, JOBS, codes, judged, spec_for
from vlcheck.evidence.launch import saving_size, work_of
from vlcheck.gpus import gpu
from vlcheck.launch.cost import cost_of
from vlcheck.launch.duration import BAND, Duration, Span, StepWork, micro_batch, show_time, steps_of
from vlcheck.launch.earlier import read_step_seconds
from vlcheck.launch.measured import STEPS, measured_step
from vlcheck.launch.platforms import platform_of
from vlcheck.launch.read import read_job
from vlcheck.memory.project import Simulation
from vlcheck.memory.shape import Shape
from vlcheck.model import catalogue
from vlcheck.model.families import family_of
from vlcheck.processing.lengths import Lengths, RowLength
from vlcheck.spec import ConfigError

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "fixtures" / "measured"
H100 = gpu("h100")


def read_lines(name: str) -> list[dict]:
    return [json.loads(line) for line in (MEASURED / name).read_text().splitlines()]


def single_steps() -> dict[str, float]:
    """Seconds of a micro-batch, the first step left out, by the run's name."""
    rows = read_lines("2026-11-24-h100.jsonl")
    return {row["name"]: statistics.median(row["measured"]["seconds"][1:]) / row["run"]["accumulation"] for row in rows}


def long_rows() -> dict[int, list[float]]:
    """Seconds of micro-batches of one row of E4B, by its tokens; vlcheck's own logits."""
    (run,) = (row for row in read_lines("rows-single-2026-11-27.jsonl")
              if row.get("name") == "gemma-4-E4B-it n8 t16000 b1")  # fmt: skip
    found: dict[int, list[float]] = {}
    measured = run["measured"]
    for batch, seconds in list(zip(measured["micro_batches"], measured["seconds"], strict=True))[1:]:
        found.setdefault(batch["shape"][1], []).append(seconds)
    return found


RECIPES = {
    ("gemma4-31b-pet", 256, 1, 70): StepWork(1202, 33869241819136.0, True),
    ("gemma4-31b-pet", 512, 1, 280): StepWork(1202, 71608588992512.0, True),
    ("gemma4-31b-pet", 1408, 1, 1120): StepWork(1202, 212107178672128.0, True),
    ("gemma4-e4b-pet", 512, 1, 280): StepWork(914, 12353100316672.0, True),
    ("gemma4-e4b-pet", 5114, 2, 280): StepWork(914, 133455367541760.0, True),
    ("gemma4-e4b-pet", 9043, 2, 280): StepWork(914, 269924749121024.0, True),
    ("gemma4-e4b-pet", 15953, 4, 280): StepWork(914, 590805390160384.0, True),
}
"""Work of a row by recipe, tokens, images and soft tokens; the slow test counts it again."""


def measured_seconds(recipe: str, tokens: int, soft: int) -> list[float]:
    if recipe == "gemma4-e4b-pet" and tokens > 1000:
        return long_rows()[tokens]
    model = {"gemma4-31b-pet": "gemma-4-31B-it", "gemma4-e4b-pet": "gemma-4-E4B-it"}[recipe]
    rank = 64 if "31B" in model else 16
    return [single_steps()[f"{model} b1 t{tokens} s{soft} r{rank}"]]


@pytest.mark.parametrize("case", RECIPES, ids=lambda case: f"{case[0]} {case[1]}")
def test_a_projected_step_lies_within_its_band_of_the_measured_one(case):
    """The bundled 31B and E4B recipes on an H100, at three row lengths and more."""
    recipe, tokens, _, soft = case
    projected = micro_batch(RECIPES[case], H100)
    seconds = measured_seconds(recipe, tokens, soft)

    assert projected.high == pytest.approx(projected.likely * BAND)
    assert all(projected.low <= each <= projected.high for each in seconds), (projected, seconds)


@pytest.mark.slow
def test_the_work_of_the_recipes_is_counted_as_written():
    for recipe in {case[0] for case in RECIPES}:
        spec = vlcheck.load(ROOT / "vlcheck" / "recipes" / f"{recipe}.yaml")
        config = catalogue.lookup(spec.model.id).config
        simulation = Simulation(spec, config, family_of(config))
        for (name, tokens, images, soft), work in RECIPES.items():
            if name == recipe:
                assert work_of(simulation, Shape(tokens=tokens, images=images, soft_tokens=soft)) == work


@pytest.mark.slow
def test_68_of_70_measured_steps_lie_within_the_band():
    """All of the held-out families among them; the other two are Qwen2.5-VL's, with many windows of attention."""
    seconds, outside, held_out = single_steps(), [], 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for run in RUNS:
            if run.name not in seconds:
                continue
            config = catalogue.lookup(run.model).config
            work = work_of(Simulation(run.spec(), config, family_of(config)), run.shape())
            projected = micro_batch(work, H100)
            inside = projected.low <= seconds[run.name] <= projected.high
            outside += [] if inside else [run]
            held_out += inside and run.split == "held-out"

    assert len(outside) <= 2, [run.name for run in outside]
    assert {run.model for run in outside} <= {"Qwen/Qwen2.5-VL-7B-Instruct"}
    assert held_out == 32


def test_the_table_of_measured_steps_is_that_of_the_files():
    names = {(run.model, run.rows, run.tokens): run.name for run in RUNS
             if run.quantised and run.checkpointing and run.logits == "supervised" and run.targets == "all-linear"
             and run.optim == "paged_adamw_8bit" and run.bf16 and not run.kbit and run.accumulation == 1
             and run.rank == (16 if "E4B" in run.model else 64)}  # fmt: skip
    seconds = single_steps()

    for step in STEPS:
        assert step.seconds == pytest.approx(seconds[names[step.model, step.rows, step.tokens]], abs=0.006)
    assert measured_step("google/gemma-4-31B-it", "h100", 1, 600).seconds == 2.66
    assert measured_step("google/gemma-4-31B-it", "h100", 1, 900) is None
    assert measured_step("google/gemma-4-31B-it", "h200", 1, 512) is None


def test_the_published_run_lies_within_the_band_of_other_cards():
    """The sample's author tells of 3,680 rows, 3 epochs, batch 16 in 4.25 h on an RTX PRO 6000: at most 22 s a step."""
    steps = steps_of(3680, batch=16, epochs=3)
    step = micro_batch(RECIPES["gemma4-31b-pet", 512, 1, 280], gpu("rtx-pro-6000")) * 16

    assert steps == 690
    assert step.low <= 4.25 * 3600 / steps <= step.high


# --------------------------------------------------------------------------- parts


def test_a_larger_micro_batch_is_bound_by_its_products():
    small, large = StepWork(1202, 7e13, True), StepWork(1202, 16 * 7e13, True, 16)

    assert micro_batch(small, H100).likely == pytest.approx(2.10, abs=0.01)
    assert micro_batch(large, H100).likely == pytest.approx(16 * 7e13 * 1.5 / (0.2 * 989.4e12))
    assert micro_batch(replace(small, checkpointing=False), H100).likely == pytest.approx(1.26, abs=0.01)
    assert micro_batch(small, gpu("l4")).high / micro_batch(small, gpu("l4")).low == pytest.approx(2.5**2)


def test_evaluations_and_checkpoints_take_their_time():
    """What cannot be counted is named, so that the most of the projection is not taken for a bound."""
    spec = spec_for("kubernetes")
    job = read_job(JOBS / "kubernetes" / "603-deadline.yaml")
    data = replace(spec.data, eval_split="test", eval_samples=160)
    known = replace(spec, data=data, training=replace(spec.training, eval_strategy="epoch"))
    unknown = replace(known, data=replace(data, eval_samples=None))
    (whole,) = judged(job, known, select=("VLC603",)).outcomes
    (part,) = judged(job, unknown, select=("VLC603",)).outcomes

    assert "evaluating" in whole.findings[0].message
    assert "saving" in whole.findings[0].message
    assert "without evaluations, whose rows are not known" in part.findings[0].message


def test_a_run_that_may_stop_early_fails_no_job():
    """Its least is not known, so a short timeout is a warning."""
    spec = spec_for("kubernetes")
    job = read_job(JOBS / "kubernetes" / "603-deadline.yaml")
    training = replace(spec.training, eval_strategy="epoch", early_stopping_patience=1)

    assert codes(judged(job, spec)) == {"VLC603"}
    assert codes(judged(job, replace(spec, training=training))) == {"VLC604"}


def test_the_basis_says_what_steps_were_counted_from():
    spec = spec_for("kubernetes")
    job = read_job(JOBS / "kubernetes" / "603-deadline.yaml")
    rows = Lengths((RowLength(512, 1, 280, 8),) * 640)
    limited = replace(spec, training=replace(spec.training, max_steps=400))
    told = [
        judged(job, run, select=("VLC603",), lengths=given).outcomes[0].findings[0].message
        for run, given in ((spec, Lengths()), (spec, rows), (limited, rows))
    ]

    for message, steps, basis in zip(
        told,
        (132, 120, 400),
        ("the 700 rows of data.train_samples", "640 rows that were read", "max_steps"),
        strict=True,
    ):
        assert f"{steps} steps of " in message
        assert basis in message


@pytest.mark.parametrize(
    ("rows", "batch", "epochs", "steps"), [(700, 16, 3, 132), (1, 16, 1, 1), (32, 16, 0.5, 1), (33, 16, 2, 6)]
)
def test_steps_are_counted_as_the_trainer_does(rows, batch, epochs, steps):
    assert steps_of(rows, batch=batch, epochs=epochs) == steps


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.5, "0.5 s"), (45, "45 s"), (600, "10 min"), (21600, "6 h"), (9000, "2.5 h")]
)
def test_times_are_said_as_people_do(seconds, shown):
    assert show_time(seconds) == shown


def test_a_price_has_its_day():
    duration = Duration(parts={"training": Span(3600, 5400, 7200)}, step=Span(), steps=1, basis="")
    runpod = platform_of("runpod")

    assert cost_of(duration, runpod, "h200", 2).startswith("9.18 to 18.36 USD at 4.59 an hour and card")
    assert "2026-10-07" in cost_of(duration, runpod, "h200", 2)
    assert "2.69 in the Community Cloud" in cost_of(duration, runpod, "h100", 1)
    assert cost_of(duration, runpod, "h200", 2, 5.0) == "5.00 to 10.00 at 5 an hour (hardware.price_per_hour)"
    machine = "at 1.31 an hour and card, 1.87 for 20 CPUs and 80 GiB beside it (us-central1, without zonal redundancy"
    assert cost_of(duration, platform_of("cloud-run"), "rtx-pro-6000", 1).startswith(f"3.18 to 6.36 USD {machine}")
    assert cost_of(duration, platform_of("cloud-run"), "h100", 1) == ""


def test_an_earlier_run_gives_its_median_step(tmp_path):
    lines = [{"event": "memory"}, *({"step": n, "seconds": s, "wait_seconds": 0.5} for n, s in ((1, 9), (2, 2), (3, 4), (4, 3)))]  # fmt: skip # noqa: E501
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n{broken\n")

    assert read_step_seconds(tmp_path / "metrics.jsonl") == 3.5


@pytest.mark.parametrize(
    "text", ["", "{}\n", "[]\n[[[[\n", '{"step": 1, "seconds": "x"}\n', '{"step": 1, "seconds": 1e400}']
)
def test_a_file_without_steps_is_refused(tmp_path, text):
    (tmp_path / "metrics.jsonl").write_text(text)
    for path in (tmp_path / "metrics.jsonl", tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigError, match=r"holds no steps|cannot be read"):
            read_step_seconds(path)


@pytest.mark.parametrize(
    ("optim", "bf16", "fp32"),
    [("adamw_torch", 2 + 4, 4 + 8), ("paged_adamw_8bit", 2 + 2, 4 + 2), ("sgd", 2, 4), ("adafactor", 2, 4)],
)
def test_a_checkpoint_holds_what_trains_and_the_state_of_its_own_width(optim, bf16, fp32):
    """A full fine-tune trains 16-bit weights, adapters are fp32; bytes a value."""
    run = replace(spec_for("launch"), training=replace(spec_for("launch").training, optim=optim))
    for width, size in ((2, bf16), (4, fp32)):
        host = replace(HOST, trained=1000, adapter_bytes=1000 * width)
        assert saving_size(run, host) == 1000 * size
