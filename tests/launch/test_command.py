"""`vlcheck preflight`: one report, one exit code, the audit's options."""

from __future__ import annotations

import json

import pytest

from tests.launch.runs import JOBS
from vlcheck.rules import LAUNCH_RULES, choose

CONFIG = JOBS / "launch" / "sound-cloud-run.yaml"


def test_a_config_without_a_job_is_refused(vlcheck, tmp_path):
    """A run on this machine has no job to judge."""
    config = tmp_path / "run.yaml"
    config.write_text(CONFIG.read_text().partition("launch:")[0])
    code, out, err = vlcheck("preflight", config)

    assert (code, out) == (2, "")
    assert "launch.platform is local; allowed: a job file (--job)" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--job", "none.yaml"), "none.yaml"),
        (("--job", CONFIG), "unknown job, top-level keys: model"),
        (("--requirements", "none.txt"), "none.txt"),
        (("--metrics", "none.jsonl"), "none.jsonl"),
        (("--select", "VLC999"), "no rule 'VLC999'"),
        (("--select", "VLC701"), "VLC701 belongs to `vlcheck check-adapter`"),
        (("--output", CONFIG), "would overwrite the config"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(vlcheck, arguments, message):
    code, out, err = vlcheck("preflight", CONFIG, *arguments)

    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_an_audit_names_the_command_of_a_launch_rule(vlcheck):
    code, _, err = vlcheck("audit", CONFIG, "--select", "VLC6")

    assert code == 2
    assert "VLC6 belongs to `vlcheck preflight`" in err


def test_a_job_is_judged_and_told(vlcheck, tmp_path):
    """Rules that need no model: a document with the job, and exit code 1 for an error."""
    job = JOBS / "gcloud" / "601-other-card.sh"
    code, out, err = vlcheck(
        "preflight", CONFIG, "--job", job, "--select", "VLC601,VLC606,VLC620", "--format", "json", "--offline",
        "--requirements", JOBS / "upstream" / "requirements.txt",
    )  # fmt: skip
    document = json.loads(out)
    found = {outcome["code"] for outcome in document["outcomes"] if outcome["findings"]}

    assert (code, err) == (1, "")
    assert found == {"VLC601", "VLC620"}
    assert document["model"]["job"].startswith("Cloud Run job of ")


def test_rules_of_jobs_stand_apart():
    """`audit` runs none of them; `preflight` runs all, after the audit's."""
    codes = [rule.code for rule in choose(launched=True)]

    assert not {rule.code for rule in LAUNCH_RULES} & {rule.code for rule in choose()}
    assert codes[-len(LAUNCH_RULES) :] == [rule.code for rule in LAUNCH_RULES]
    assert all(rule.code.startswith("VLC6") for rule in LAUNCH_RULES)
