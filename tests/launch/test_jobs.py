"""74 job files of ten formats: 54 with a planted fault and its exact codes, 20 sound and silent."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.launch.runs import FILES, JOBS, codes, judged_file, planted
from vlcheck.finding import Verdict


def name(path) -> str:
    return path.relative_to(JOBS).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_job_brings_up_what_is_planted_and_nothing_else(path):
    report = judged_file(path)

    assert codes(report) == planted(path), [f.message for o in report.found() for f in o.findings]
    assert not report.with_verdict(Verdict.ERROR)
    for outcome in report.found():
        assert all(finding.where.line >= 1 and finding.where.file for finding in outcome.findings)


def test_there_are_as_many_files_as_are_told():
    formats = Counter(path.parent.name for path in FILES)

    assert len(FILES) == 74
    assert sum(path.name.startswith("sound") for path in FILES) == 20
    assert min(formats.values()) >= 6
    assert len(formats) == 10


def test_every_rule_but_those_without_a_file_is_planted():
    """What no file plants has its broken run in test_rules.py."""
    seen = {code for path in FILES for code in planted(path)}

    assert seen >= {"VLC601", "VLC603", "VLC604", "VLC606", "VLC607", "VLC608", "VLC610", "VLC611", "VLC612",
                    "VLC613", "VLC614", "VLC615", "VLC616", "VLC617", "VLC620", "VLC621", "VLC622", "VLC623",
                    "VLC624"}  # fmt: skip
