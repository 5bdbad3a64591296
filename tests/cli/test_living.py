"""A team that lives with a finding: comments, a baseline, a project's settings; the exit codes stay what they mean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SELECT = ("--offline", "--select", "VLC901")  # a rule that needs no model
NOTE = ("--fail-on", "warning")
RUN = "model: {{id: a/b}}{comment}\nlora: {{target_modules: all-linear}}\n"


@pytest.fixture
def run(tmp_path, vlcheck):
    """A run with one warning, about line 1; its config is written with a comment, and audited."""

    def audited(*options: str, comment: str = "") -> tuple[int, str, str]:
        Path("train.yaml").write_text(RUN.format(comment=comment), "utf-8")
        return vlcheck("audit", "train.yaml", *options)

    return audited


def summary(out: str) -> str:
    return out.splitlines()[-1]


def test_a_comment_ignores_its_line(run):
    """The finding does not count, and is told with its reason."""
    assert run(*SELECT, *NOTE)[0] == 1
    code, out, err = run(*SELECT, *NOTE, comment="  # vlcheck: ignore[VLC901] known, see the ticket")

    assert (code, err) == (0, "")
    assert " ".join(out.split()).count("ignored: VLC901 framework-unnamed train.yaml:1: ") == 1
    assert "reason: known, see the ticket (train.yaml:1)" in " ".join(out.split())
    assert summary(out).startswith("0 errors, 0 warnings, 0 notes; 1 finding ignored; ")


def test_an_idle_comment_is_said(run):
    """What it names was judged, and nothing was found there."""
    _, out, _ = run(*SELECT, comment="\n# vlcheck: ignore[VLC901] elsewhere")
    assert "the comment at train.yaml:2 ignores VLC901, and nothing" in " ".join(out.split())


@pytest.mark.parametrize(
    ("comment", "complaint"),
    [
        ("ignore[VLC901]", "comment \"# vlcheck: ignore[VLC901]\" gives no reason; allowed: "),
        ("ignore[VLC996] why", "the comment ignores no rule 'VLC996'; did you mean "),
    ],
)  # fmt: skip
def test_a_comment_that_cannot_be_meant_is_refused(run, comment, complaint):
    """Before any work, with its place."""
    code, out, err = run(*SELECT, comment=f"  # vlcheck: {comment}")

    assert (code, out) == (2, "")
    assert err.startswith(f"error: train.yaml:1:19: {complaint}")


def test_a_baseline_holds_and_shrinks(run, tmp_path):
    """Written once, it holds what is known wherever it stands; what is fixed leaves it; it is not written over."""
    code, out, err = run(*SELECT, *NOTE, "--write-baseline", "known.json")
    assert (code, err) == (0, "known.json holds 1 findings; --baseline known.json leaves them out\n")
    (entry,) = json.loads(Path("known.json").read_text("utf-8"))["findings"]
    assert (entry["config"], entry["code"]) == ("train.yaml", "VLC901")

    code, out, err = run(*SELECT, *NOTE, "--baseline", "known.json", comment="\n\n")
    assert (code, err) == (0, "")
    assert "reason: in the baseline known.json" in " ".join(out.split())

    assert run(*SELECT, "--write-baseline", "known.json")[2] == (
        "error: known.json exists, and a baseline only shrinks: --baseline known.json takes fixed findings out of it\n"
    )
    known = Path("known.json").read_text("utf-8")
    assert run("--offline", "--select", "VLC902", "--baseline", "known.json")[2] == ""  # VLC901 was not judged
    assert Path("known.json").read_text("utf-8") == known


def test_what_is_fixed_leaves_the_baseline(run, vlcheck):
    """And comes back as new."""
    run(*SELECT, "--write-baseline", "known.json")
    Path("train.yaml").write_text(f"{RUN.format(comment='')}training: {{framework: vlcheck}}\n", "utf-8")

    assert vlcheck("audit", "train.yaml", *SELECT, "--baseline", "known.json")[2] == (
        "known.json: 1 fixed and taken out, 0 left\n"
    )
    assert run(*SELECT, *NOTE, "--baseline", "known.json")[0] == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--baseline", "known.json"), "known.json:1:1: baseline no such file; --write-baseline writes one"),
        (("--baseline", "a", "--write-baseline", "b"), "--baseline and --write-baseline exclude each other"),
        (("--write-baseline", "no/where.json"), "cannot write no: no such folder"),
    ],
)
def test_options_of_baselines(run, options, complaint):
    assert run(*SELECT, *options) == (2, "", f"error: {complaint}\n")


PROJECT = """
[tool.vlcheck]
select = ["VLC901", "VLC902", "delta-zero"]
ignore = ["VLC902"]
fail-on = "note"
format = "github"
severity = { VLC9 = "error", framework-unnamed = "note" }
"""


def test_a_projects_settings(run):
    """They stand where no option is given; the changed severity is said."""
    Path("pyproject.toml").write_text(PROJECT, "utf-8")
    code, out, err = run("--offline")

    assert (code, err) == (1, "")
    assert out.startswith("::notice file=train.yaml,line=1,col=1,title=VLC901 framework-unnamed::")
    assert "remark: severities of this project: VLC901 note (not warning)\n" in out
    assert summary(out) == "0 errors, 0 warnings, 1 note; 0 rules passed, 0 not applicable, 0 skipped, 0 failed to run"


def test_options_outrank_the_project(run):
    """Each its own setting."""
    Path("pyproject.toml").write_text(PROJECT, "utf-8")
    code, out, _ = run("--offline", "--select", "VLC901,VLC902", "--ignore", "VLC901", "--format", "text")

    assert code == 0
    assert "not applicable: VLC902" in out
    assert run("--offline", "--fail-on", "error")[0] == 0


def test_a_projects_baseline(run):
    """Relative to its file; the first one is written by the option that names it."""
    Path("pyproject.toml").write_text('[tool.vlcheck]\nbaseline = "known.json"\nselect = ["VLC901"]\n', "utf-8")
    assert run("--offline")[0] == 2
    assert run("--offline", *NOTE, "--write-baseline", "known.json")[0] == 0
    assert run("--offline", *NOTE)[0] == 0


@pytest.mark.parametrize(
    "words",
    [
        ("audit", "train.yaml"), ("preflight", "train.yaml"), ("check-adapter", "adapter", "train.yaml"),
        ("train", "train.yaml"), ("fit", "train.yaml"), ("snapshot", "train.yaml"), ("dry-run", "train.py"),
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_every_command_that_judges_reads_the_project(vlcheck, words):
    """A key that there is not is refused before anything is looked at."""
    Path("train.yaml").write_text(RUN.format(comment=""), "utf-8")
    Path("train.py").write_text("raise SystemExit\n", "utf-8")
    Path("pyproject.toml").write_text("[tool.vlcheck]\nselekt = []\n", "utf-8")
    code, out, err = vlcheck(*words)

    assert (code, out) == (2, "")
    assert err == f"error: {Path.cwd() / 'pyproject.toml'}:2:1: unknown key selekt; did you mean select?\n"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('select = ["VLC999"]', "select: no rule 'VLC999'"),
        ('severity = {VLC998 = "note"}', "severity: no rule 'VLC998'"),
        ('format = "yaml"', "format: 'yaml' is no format; allowed: text, json, sarif, junit, github, markdown"),
        ("selekt = []", "unknown key selekt; did you mean select?"),
    ],
)
def test_a_projects_mistakes(run, tmp_path, line, complaint):
    """One line, with the file."""
    Path("pyproject.toml").write_text(f"[tool.vlcheck]\n{line}\n", "utf-8")
    code, out, err = run("--offline")

    assert (code, out) == (2, "")
    assert err.startswith(f"error: {tmp_path / 'pyproject.toml'}:2:1: {complaint}")
    assert err.count("\n") == 1
