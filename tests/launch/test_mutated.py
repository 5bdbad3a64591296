"""Damaged job files of every format: a job that is judged, or one clear refusal; never a traceback."""

from __future__ import annotations

import string
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vlcheck
from tests.launch.runs import FILES, judged, spec_for
from vlcheck.finding import Verdict
from vlcheck.launch.job import Job
from vlcheck.launch.native import job_of_config
from vlcheck.launch.read import read_job
from vlcheck.spec import ConfigError

KEYS = """timeout timeoutSeconds memory cpu containers template volumes limits env mountPath accelerators resources gpu
    retries nvidia.com/gpu taskCount --task-timeout --args --add-volume resourceRequirements InstanceType gpuTypeIds
    volumes= image command name"""
SIGNS = "null true [] {} [[]] 1e400 -1 0 \" ' ${X $(id) \\\n &a *a () 99999999999999999999 1Zi -5s ~ / .. : , - { }"
PIECES = st.one_of(
    st.sampled_from(KEYS.split()),
    st.sampled_from(SIGNS.split(" ")),
    st.text(string.printable, max_size=4),
    st.text(max_size=3),
)


@st.composite
def mutations(draw):
    """One of the job files with some pieces cut out, doubled or replaced."""
    path = draw(st.sampled_from(FILES))
    text = path.read_text()
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(text)))
        stop = draw(st.integers(start, min(len(text), start + 30)))
        text = text[:start] + draw(PIECES | st.just(text[start:stop] * 2)) + text[stop:]
    return path, text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("mutated")


def outcome(file: Path, *, native: bool) -> Job | ConfigError:
    try:
        return job_of_config(vlcheck.load(file)) if native else read_job(file)
    except ConfigError as refused:
        return refused


def hold(folder, path, text) -> None:
    """The job is refused with a place, or judged without a rule that raises."""
    file = folder / f"job{path.suffix}"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    job = outcome(file, native=path.parent.name == "launch")
    if isinstance(job, ConfigError):
        assert all(problem.where.line >= 1 and problem.message for problem in job.problems)
        return
    report = judged(job, spec_for(path.parent.name))
    assert not report.with_verdict(Verdict.ERROR), [o.reason for o in report.with_verdict(Verdict.ERROR)]


@given(mutations())
@settings(max_examples=40, deadline=timedelta(seconds=20), suppress_health_check=list(HealthCheck))
def test_a_damaged_job_is_judged_or_refused(folder, mutated):
    hold(folder, *mutated)


@pytest.mark.slow
@given(mutations())
@settings(max_examples=2_000, deadline=timedelta(seconds=20), suppress_health_check=list(HealthCheck))
def test_2000_damaged_jobs_are_judged_or_refused(folder, mutated):
    hold(folder, *mutated)
