"""Where a report goes: one audit, several files, each in its format, and what stdout gets."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vlcheck.reports import FORMATS, SUFFIXES, destination

CHEAP = ("--offline", "--select", "VLC901")  # a rule that needs no model
LAST = "0 errors, 1 warning, 0 notes; 0 rules passed, 0 not applicable, 0 skipped, 0 failed to run"


@pytest.fixture
def config(tmp_path):
    """A warning about line 1: no framework is named."""
    path = tmp_path / "train.yaml"
    path.write_text("model: {id: a/b}\nlora: {target_modules: all-linear}\n")
    return "train.yaml"


def test_one_audit_writes_every_format(vlcheck, config):
    """By suffix or by name; stdout has the last line and the files."""
    names = ("report.sarif", "summary.md", "out.json", "junit.xml", "github:notes", "text:all.txt")
    code, out, err = vlcheck("audit", config, *CHEAP, *(word for name in names for word in ("--output", name)))

    assert (code, err) == (0, "")
    files = [name.rpartition(":")[2] for name in names]
    assert out == f"{LAST}; report written to {', '.join(files)}\n"
    sarif, summary, document, junit, notes, text = (Path(name).read_text("utf-8") for name in files)
    (result,) = json.loads(sarif)["runs"][0]["results"]
    assert result["ruleId"] == "VLC901"
    assert summary.startswith("## vlcheck: train.yaml\n")
    assert json.loads(document)["schema"] == "vlcheck-report"
    assert ElementTree.fromstring(junit).get("failures") == "0"
    assert notes.startswith("::warning file=train.yaml,line=1,col=1,title=VLC901 framework-unnamed::")
    assert text.endswith(f"{LAST}\n")


@pytest.mark.parametrize(
    ("options", "first"),
    [
        (("--format", "github", "--output", "r.sarif"), "::warning file=train.yaml"),  # no file has it: it is printed
        (("--format", "sarif", "--output", "r.sarif"), LAST),
        (
            ("--format", "json", "--output", "report"),
            LAST,
        ),  # a file whose name says nothing has the format that is named
        (("--format", "markdown"), "## vlcheck: train.yaml"),
        (("--format", "junit"), "<?xml version="),
    ],
)
def test_what_stdout_gets(vlcheck, config, options, first):
    """The format that was named, unless a file has it."""
    code, out, err = vlcheck("audit", config, *CHEAP, *options)

    assert (code, err) == (0, "")
    assert out.startswith(first)


def test_failures_of_junit_are_those_of_the_exit_code(vlcheck, config):
    """--fail-on warning makes the warning a failure in both."""
    code, _, _ = vlcheck("audit", config, *CHEAP, "--fail-on", "warning", "--output", "j.xml")

    assert (code, ElementTree.fromstring(Path("j.xml").read_text("utf-8")).get("failures")) == (1, "1")


@pytest.mark.parametrize(
    ("outputs", "complaint"),
    [
        (("serif:out",), "--output serif:out: no format 'serif'; formats: text, json, sarif, junit, github, markdown; "
                         "a file of that name is ./serif:out"),
        (("a.md", "text:a.md"), "--output text:a.md is named twice"),
        (("json:train.yaml",), "--output json:train.yaml would overwrite the config"),
        (("a.md", "sarif:no/where"), "cannot write no: no such folder"),
    ],
)  # fmt: skip
def test_outputs_are_checked_before_the_audit(vlcheck, config, outputs, complaint):
    """A mistake is one line, and nothing is written."""
    code, out, err = vlcheck("audit", config, *(word for name in outputs for word in ("--output", name)))

    assert (code, out, err) == (2, "", f"error: {complaint}\n")
    assert sorted(path.name for path in Path().iterdir()) == ["train.yaml"]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        *((f"a{suffix.upper()}", (form, f"a{suffix.upper()}")) for suffix, form in SUFFIXES.items()),
        *((f"{form}:a.json", (form, "a.json")) for form in FORMATS),
        ("C:/a.sarif", ("sarif", "C:/a.sarif")),
        ("./any:a", ("text", "./any:a")),
        ("a.txt", ("text", "a.txt")),
    ],
)
def test_destination(output, expected):
    """The longest suffix counts; one letter before a colon is a drive."""
    assert destination(output, "text") == expected
