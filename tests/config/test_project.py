"""`[tool.vlcheck]` of pyproject.toml: found upward, read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlcheck.config.load import load
from vlcheck.config.project import ProjectSettings, read_project
from vlcheck.finding import Severity
from vlcheck.spec import ConfigError

WHOLE = """
[project]
name = "mine"

[tool.vlcheck]
select = ["VLC1", "clip-around"]
ignore = ["VLC106"]
fail-on = "warning"
format = "github"
gpu = "h100"
baseline = "ci/known.json"

[tool.vlcheck.severity]
VLC301 = "note"
"""


@pytest.fixture
def project(tmp_path):
    """A project whose configs lie two folders deep; writes its settings."""
    (tmp_path / "runs" / "one").mkdir(parents=True)

    def write(text: str) -> Path:
        (tmp_path / "pyproject.toml").write_text(text, "utf-8")
        return tmp_path / "runs" / "one"

    return write


def test_all_settings(project, tmp_path):
    """Each key, with its place; a path is relative to the file."""
    found = read_project(project(WHOLE))

    assert (found.select, found.ignore) == (("VLC1", "clip-around"), ("VLC106",))
    assert (found.fail_on, dict(found.severity)) == (Severity.WARNING, {"VLC301": Severity.NOTE})
    assert (found.format, found.gpu, found.baseline) == ("github", "h100", tmp_path / "ci" / "known.json")
    assert {key: place.line for key, place in found.places.items()} == {
        "select": 6, "ignore": 7, "fail-on": 8, "format": 9, "gpu": 10, "baseline": 11, "severity": 13,
    }  # fmt: skip


def test_the_nearest_file_with_a_table_counts(project):
    """A nearer one of another tool's is passed over, broken or not."""
    folder = project('[tool.vlcheck]\ngpu = "h100"\n')
    (folder / "pyproject.toml").write_text("[tool.ruff]\nx = \n")
    assert read_project(folder).gpu == "h100"
    (folder / "pyproject.toml").write_text("[tool.vlcheck]\n")
    assert read_project(folder).gpu is None


def test_no_file_asks_nothing(tmp_path):
    assert read_project(tmp_path) == ProjectSettings()


@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        ("[tool.vlcheck]\nselekt = []\n", 2, "unknown key selekt; did you mean select?"),
        ("[tool.vlcheck]\nxyz = 1\n", 2, "unknown key xyz; allowed: select, ignore, severity, fail-on, format, gpu, "
                                         "baseline"),
        ('[tool.vlcheck]\nselect = "VLC1"\n', 2, 'select is "VLC1"; allowed: a list of codes, prefixes (VLC1) or '
                                                 "names of rules"),
        ("[tool.vlcheck]\nignore = ['']\n", 2, 'ignore is [""]; allowed: a list of codes'),
        ("[tool.vlcheck]\nfail-on = 1979-05-27\n", 2, 'fail-on is "1979-05-27"; allowed: error, warning or note'),
        ("[tool.vlcheck.severity]\nVLC1 = 'fatal'\n", 1, 'severity is {"VLC1": "fatal"}; allowed: a table of codes'),
        ("[tool]\nvlcheck = 3\n", 1, "tool.vlcheck is 3; allowed: a table"),
        ("[tool.vlcheck]\ngpu = \n", 1, "not valid TOML: "),
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_said_once(project, text, line, complaint):
    """With the file and the line, the value seen and the values allowed."""
    with pytest.raises(ConfigError) as refused:
        read_project(project(text))
    (problem,) = refused.value.problems
    assert problem.where.line == line
    assert problem.message.startswith(complaint)


def test_the_projects_card_is_for_runs_that_name_none(project):
    """A config's own card and an option's outrank it."""
    folder = project('[tool.vlcheck]\ngpu = "h100"\n')
    config = folder / "run.yaml"
    sound = "model: {id: google/gemma-4-E2B-it}\nlora: {target_modules: all-linear}\n"
    config.write_text(sound)
    settings = read_project(folder)
    spec = load(config, project=settings)

    assert (spec.hardware.gpu, spec.where("hardware.gpu").file) == ("h100", settings.places["gpu"].file)
    assert load(config, gpu="t4", project=settings).hardware.gpu == "t4"
    assert load(config, memory_gib=24, project=settings).hardware.gpu is None
    config.write_text(f"{sound}hardware: {{gpu: l4}}\n")
    assert load(config, project=settings).hardware.gpu == "l4"
