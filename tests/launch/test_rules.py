"""Each rule VLC6xx: a broken job that it catches, a sound one that it passes after a look, and its emptied body."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import pytest

import vlcheck.rules
from tests import tiny
from tests.launch.runs import HERE, HOST, TODAY, codes, judged, plan_of, spec_for
from vlcheck.finding import Finding, Report, Rule, Severity, Verdict
from vlcheck.gpus import GIB
from vlcheck.gpus import gpu as row_of
from vlcheck.launch.duration import Duration, Span
from vlcheck.launch.job import Job, Mount, Placed, Requirement
from vlcheck.launch.platforms import PLATFORMS, Told, platform_of
from vlcheck.model.config import ModelConfig
from vlcheck.rules import LAUNCH_RULES
from vlcheck.spec import Hardware, Lora, ModelRef, RunSpec, Training


def at(value: Any) -> Placed[Any]:
    return Placed(value, HERE)


def words(text: str) -> tuple[Placed[str], ...]:
    return tuple(map(at, text.split()))


SOUND = Job(
    platform="cloud-run", where=HERE, gpu=at("nvidia-rtx-pro-6000"), gpu_count=at(1), cpu=at(20.0),
    memory_bytes=at(96 * GIB), timeout_seconds=at(21_600), retries=at(3), region=at("europe-west4"),
    image=at("acme/pets:cuda12.8"), command=words("vlcheck train run.yaml"), env={"HF_HOME": at("/mnt/out/hub")},
    mounts=(Mount("/mnt/out", "bucket", HERE),), tasks=at(1),
    requirements=(Requirement("transformers", "transformers==5.23.0", HERE),),
)  # fmt: skip
TRL = words("trl sft --output_dir /mnt/out/run")
UNKNOWN = {"duration": None}


@dataclass(frozen=True)
class Pair:
    """What a broken job differs in from the sound one, and what a sound one near it does."""

    broken: dict[str, Any]
    examined: tuple[tuple[int, str], ...]
    sound: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    """Fields of the training section, for both."""
    given: dict[str, Any] = field(default_factory=dict)
    """Evidence for the broken job."""
    alike: dict[str, Any] = field(default_factory=dict)
    """Evidence for the sound job."""
    beside: frozenset[str] = frozenset()


RULES: dict[str, Pair] = {
    "VLC601": Pair({"gpu": at("nvidia-h100-80gb")}, ((2, "card and count"),), beside=frozenset({"VLC608"})),
    "VLC602": Pair({}, ((1, "moments of a step"),), given={"job_plan": plan_of(row_of("l4"))}),
    "VLC603": Pair({"timeout_seconds": at(1200), "retries": at(0)}, ((5, "parts of the run"),)),
    "VLC604": Pair({"timeout_seconds": at(5400), "retries": at(0)}, ((5, "parts of the run"),)),
    "VLC605": Pair({"timeout_seconds": None}, ((1, "timeout"),), given=UNKNOWN, alike=UNKNOWN),
    "VLC606": Pair({"timeout_seconds": at(86_400)}, ((1, "timeout"),)),
    "VLC607": Pair({"cpu": at(8.0)}, ((2, "CPUs and memory"),)),
    "VLC608": Pair({"region": at("us-east1")}, ((4, "regions"),)),
    "VLC610": Pair(
        {"env": {}}, ((4, "things that are held in memory"),), given={"host": replace(HOST, checkpoint_bytes=90 * GIB)}
    ),
    "VLC611": Pair(
        {"disk_bytes": at(50 * GIB), "env": {}, "memory_bytes": at(128 * GIB)},
        ((2, "things that lie on the disk"),),
        {"disk_bytes": at(50 * GIB)},
    ),
    "VLC612": Pair(
        {"mounts": (), "retries": at(0), "memory_bytes": at(128 * GIB)}, ((1, "mounts"), (1, "output folder"))
    ),
    "VLC613": Pair({"command": TRL}, ((1, "number of retries"),), {"command": TRL, "retries": at(0)}),
    "VLC614": Pair(
        {"mounts": (), "command": words("vlcheck train run.yaml --to gs://a --upload gs://a")},
        ((1, "output folder"),),
    ),
    "VLC615": Pair({"command": (*TRL, at("--resume_from_checkpoint"))}, ((1, "way of resuming"),)),
    "VLC616": Pair({}, ((1, "interval between checkpoints"),), given={"run": {"save_strategy": "no"}}),
    "VLC617": Pair({"grace_seconds": at(1)}, ((1, "grace period"),), {"grace_seconds": at(60)}),
    "VLC620": Pair({"requirements": (Requirement("trl", "trl>=1.0", HERE),)}, ((1, "packages"),)),
    "VLC621": Pair(
        {"command": (*TRL, *words("--warmup_ratio 0.1")), "retries": at(0)},
        ((2, "arguments"),),
        {"command": (*TRL, *words("--warmup_steps 0.1")), "retries": at(0)},
    ),
    "VLC622": Pair({"image": at("acme/pets:cuda12.4")}, ((1, "images"),)),
    "VLC623": Pair(
        {"env": {"HF_HOME": at("/mnt/out/hub"), "API_KEY": at("abc123def456")}}, ((4, "variables and words"),)
    ),
    "VLC624": Pair(
        {"tasks": at(4)},
        ((4, "tasks"),),
        {"tasks": at(4), "command": words("vlcheck train $CLOUD_RUN_TASK_INDEX.yaml")},
    ),
}


def report_of(pair: Pair, changes: dict[str, Any], given: dict[str, Any], select: tuple[str, ...]) -> Report:
    spec, given = spec_for("cloud-run"), dict(given)
    training = given.pop("run", {})
    spec = replace(spec, training=replace(spec.training, **training))
    if "duration" in given:  # nobody knows how many rows there are
        del given["duration"]
        spec = replace(spec, data=replace(spec.data, train_samples=None))
    return judged(replace(SOUND, **changes), spec, select=select, **given)


def assert_caught(code: str, select: tuple[str, ...] = ("VLC6",)) -> None:
    pair = RULES[code]
    report = report_of(pair, pair.broken, pair.given, select)
    assert codes(report) == {code} | pair.beside, [f.message for o in report.found() for f in o.findings]
    assert not report.with_verdict(Verdict.ERROR)


def assert_silent(code: str) -> None:
    pair = RULES[code]
    (outcome,) = report_of(pair, pair.sound, pair.alike, (code,)).outcomes
    assert outcome.verdict is Verdict.PASSED, (outcome.reason, outcome.findings)
    if pair.examined:
        assert tuple((seen.count, seen.what) for seen in outcome.examined) == pair.examined
    assert outcome.examined


def emptied(rule: Rule) -> Rule:
    """The rule with the same evidence and no body."""

    def check(**evidence: Any) -> list[Finding]:
        return []

    check.__signature__ = inspect.signature(rule.check)
    return replace(rule, check=check)


@pytest.mark.parametrize("code", [rule.code for rule in LAUNCH_RULES])
def test_a_broken_job_is_caught_by_its_rule_alone(code):
    assert_caught(code)


@pytest.mark.parametrize("code", [rule.code for rule in LAUNCH_RULES])
def test_a_sound_job_is_passed_after_a_look(code):
    assert_silent(code)


@pytest.mark.parametrize("code", [rule.code for rule in LAUNCH_RULES])
def test_an_emptied_rule_fails_both(code, monkeypatch):
    changed = tuple(emptied(rule) if rule.code == code else rule for rule in LAUNCH_RULES)
    monkeypatch.setattr(vlcheck.rules, "LAUNCH_RULES", changed)

    with pytest.raises(AssertionError):
        assert_caught(code, (code,))
    with pytest.raises(AssertionError):
        assert_silent(code)


# --------------------------------------------------------------------------- what is known, and since when


def row_with(**changes: Any):
    return replace(platform_of("cloud-run"), **changes)


def test_a_disputed_or_old_fact_warns_and_never_fails():
    """A default timeout that somebody disputes, or that was read years ago, is VLC604's and not VLC603's."""
    disputed = row_with(default_timeout=Told(600, "a page", TODAY, doubt="another page"))
    job, spec = replace(SOUND, timeout_seconds=None, retries=at(0)), spec_for("cloud-run")

    assert codes(judged(job, spec)) == {"VLC603"}
    assert codes(judged(job, spec, platform=disputed)) == {"VLC604"}
    later = judged(replace(job, cpu=at(1.0), region=at("mars")), spec, today=date(2029, 1, 1))
    assert {o.rule.severity for o in later.found()} == {Severity.WARNING}
    skipped = {o.rule.code: o.reason for o in later.with_verdict(Verdict.SKIPPED)}
    assert {"VLC607", "VLC608"} <= set(skipped)


def test_every_fact_has_a_source_and_a_date():
    for row in PLATFORMS:
        facts = [row.default_timeout, row.longest, row.default_retries, row.grace, row.files_in_memory,
                 row.staged_in_memory, row.interrupted, *row.minimums.values(), *row.regions.values(),
                 *row.prices.values()]  # fmt: skip
        for fact in facts:
            assert fact is None or (fact.source and date(2026, 1, 1) <= fact.read <= TODAY)
        for card in (*row.minimums, *row.regions, *row.prices):
            assert row_of(card).name == card


def test_what_is_not_known_is_skipped_and_never_passes():
    """An output that only the job knows, a program whose way of resuming nobody knows."""
    job = replace(SOUND, command=words("python train.py --output_dir $OUT"))
    report = judged(job, spec_for("cloud-run"))
    skipped = {o.rule.code for o in report.with_verdict(Verdict.SKIPPED)}

    assert {"VLC612", "VLC613", "VLC615"} <= skipped
    assert codes(report) == set()


def test_where_tasks_write_is_told_or_asked():
    """An array of tasks whose folder only the job knows is no pass."""
    job = replace(SOUND, tasks=at(4), command=words("python train.py --output_dir $OUT"))
    (outcome,) = judged(job, spec_for("cloud-run"), select=("VLC624",)).outcomes

    assert outcome.verdict is Verdict.SKIPPED


def test_an_earlier_run_narrows_the_projection():
    job, spec = replace(SOUND, timeout_seconds=at(5400), retries=at(0)), spec_for("cloud-run")

    assert codes(judged(job, spec)) == {"VLC604"}
    assert codes(judged(job, spec, earlier_seconds=20.0)) == set()
    assert codes(judged(job, spec, earlier_seconds=90.0)) == {"VLC603"}


def test_the_finding_counts_every_part():
    parts = {"training": Span(7000, 8000, 9000), "loading": Span(1, 2, 3)}
    told = Duration(parts=parts, step=Span(1, 2, 3), steps=5, basis="made up", left_out=("evaluations",))
    (outcome,) = judged(replace(SOUND, timeout_seconds=at(60)), spec_for("cloud-run"), select=("VLC603",),
                        duration=told).outcomes  # fmt: skip

    assert outcome.findings[0].measured == {
        "given_seconds": 60,
        "attempts": 1, "least_seconds": 7001, "likely_seconds": 8002, "most_seconds": 9003
    }  # fmt: skip
    assert "without evaluations" in outcome.findings[0].message


def test_attempts_that_go_on_from_each_other_count_together():
    """A short timeout on purpose: retries, checkpoints that outlive the attempt, and a program that takes them up."""
    job, spec = replace(SOUND, timeout_seconds=at(3600), retries=at(9)), spec_for("cloud-run")
    lost = replace(job, mounts=(Mount("/mnt/out", "scratch", HERE),))
    other = replace(job, command=words("python train.py --output_dir /mnt/out"))
    batch = replace(job, platform="kubernetes", gpu=at("nvidia-h100-80gb"))
    rare = replace(spec, training=replace(spec.training, save_strategy="no"))

    assert codes(judged(job, spec)) == set()
    assert "VLC604" in codes(judged(lost, spec))
    assert "VLC604" in codes(judged(other, spec))
    assert "VLC603" in codes(judged(batch, replace(spec, hardware=Hardware(gpu="h100"))))  # no retry after a deadline
    assert "VLC604" in codes(judged(job, rare))


def test_an_update_says_nothing_of_what_it_leaves():
    job = replace(SOUND, whole=False, mounts_told=False, timeout_seconds=None, retries=None, mounts=())
    report = judged(job, spec_for("cloud-run"))

    assert codes(report) == set()
    assert {"VLC612"} <= {o.rule.code for o in report.with_verdict(Verdict.SKIPPED)}


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("HF_TOKEN", "x9f8e7d6c5", True),
        ("WANDB_API_KEY", "0123abcd0123", True), ("DB_PASSWORD", "hunter2", True),
        ("NOTE", "hf_abcdefghijklmnopqrstuvwxyz", True), ("TOKENIZER", "google/gemma", False),
        ("MAX_TOKENS", "9", False),
        ("TOKENIZERS_PARALLELISM", "false", False), ("SECRET_ID", "HF_TOKEN", False), ("HF_TOKEN", "$HF_TOKEN", False),
        ("HF_TOKEN", "/run/secrets/hf", False), ("HF_TOKEN", "", False), ("MONKEY", "banana", False),
    ],
)  # fmt: skip
def test_a_secret_is_told_by_its_name_or_its_look(name, value, secret):
    report = judged(replace(SOUND, env={name: at(value)}), spec_for("cloud-run"), select=("VLC623",))

    assert codes(report) == ({"VLC623"} if secret else set())


@pytest.mark.slow
def test_another_card_is_simulated():
    """A real step of a tiny model on the job's card, where the config names another."""
    config = tiny.gemma4()
    spec = RunSpec(
        model=ModelRef(id="none"),
        lora=Lora(r=4, target_modules="all-linear"),
        training=Training(framework="vlcheck", gradient_checkpointing=True, max_steps=5),
        hardware=Hardware(gpu="t4"),
    )
    known = {"config": ModelConfig(config, "test"), "projection": tiny.no_projection}
    report = vlcheck.preflight(spec, SOUND, select=["VLC601", "VLC602", "VLC603"], offline=True, today=TODAY, **known)
    verdicts = {o.rule.code: o.verdict for o in report.outcomes}

    assert verdicts == {"VLC601": Verdict.FOUND, "VLC602": Verdict.PASSED, "VLC603": Verdict.PASSED}
