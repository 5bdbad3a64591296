"""What ships beside the package: the action, the hook, completion, the image's config, the schema's line."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import tomllib
from datetime import date
from pathlib import Path

import pytest
import typer
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from ruamel.yaml import YAML

from tests.launch.runs import judged
from vlcheck.cli.app import app
from vlcheck.config.load import load
from vlcheck.finding import Verdict
from vlcheck.launch.native import job_of_config
from vlcheck.launch.read import with_requirements

ROOT = Path(__file__).parents[2]
ACTION = YAML(typ="safe").load((ROOT / ".github/actions/audit/action.yml").read_text("utf-8"))


# --------------------------------------------------------------------------- the action


@pytest.fixture
def runner(tmp_path, monkeypatch):
    """What GitHub's runner gives a step, and a `vlcheck` on the path; runs a step of the action by its name."""
    shim = tmp_path / "bin" / "vlcheck"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vlcheck "$@"\n')
    shim.chmod(shim.stat().st_mode | stat.S_IEXEC)
    files = {name: tmp_path / name.lower() for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
    for file in files.values():
        file.touch()
    environment = {
        **os.environ, **{name: str(file) for name, file in files.items()}, "RUNNER_TEMP": str(tmp_path),
        "PATH": f"{shim.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }  # fmt: skip

    def run(name: str, **inputs: str) -> tuple[int, str, str, dict[str, str]]:
        (step,) = (each for each in ACTION["runs"]["steps"] if each["name"] == name)
        command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]]
        done = subprocess.run(
            command, env=environment | inputs, cwd=tmp_path, text=True, capture_output=True, check=False
        )
        outputs = dict(line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text().splitlines())
        return done.returncode, done.stdout, done.stderr, outputs

    return run


def test_action_of_a_config_that_cannot_be_used(runner, tmp_path):
    """The step goes on to the verdict, which has the audit's exit code; there is nothing to upload."""
    (tmp_path / "run.yaml").write_text("model: 3\n")
    code, out, err, outputs = runner("Audit", CONFIG="run.yaml", OPTIONS="--offline")

    assert (code, out) == (0, "")
    assert err.startswith("error: run.yaml:1:1: ")
    assert outputs == {"exit-code": "2"}
    assert runner("Verdict", CODE=outputs["exit-code"])[0] == 2


@pytest.mark.slow
def test_action_annotates_sums_up_and_uploads(runner, tmp_path):
    """The commands that the action runs, on a run with a note that fails."""
    (tmp_path / "run.yaml").write_text("model: {id: google/gemma-4-31B-it}\nlora: {target_modules: all-linear}\n")
    options = "--offline --select VLC106 --fail-on note"
    code, out, err, outputs = runner("Audit", CONFIG="run.yaml", OPTIONS=options)

    assert (code, err) == (0, "")
    assert out.startswith("::notice file=run.yaml,line=1,col=9,title=VLC106 clip-inactive::")
    assert json.loads(Path(outputs["sarif"]).read_text("utf-8"))["runs"][0]["results"][0]["ruleId"] == "VLC106"
    assert (tmp_path / "github_step_summary").read_text("utf-8").startswith("## vlcheck: run.yaml\n")
    assert outputs["exit-code"] == "1"


def test_action_takes_what_it_declares():
    """Inputs reach commands by the environment alone, outputs are those of the audit's step, and steps are named."""
    text = json.dumps(ACTION)
    steps = {step["name"]: step for step in ACTION["runs"]["steps"]}

    assert set(re.findall(r"inputs\.(\w+)", text)) == set(ACTION["inputs"])
    assert list(steps) == ["Install", "Audit", "Upload", "Verdict"]
    assert not any("${{" in step.get("run", "") for step in steps.values())
    assert steps["Upload"]["uses"].startswith("github/codeql-action/upload-sarif@")
    assert {output["value"] for output in ACTION["outputs"].values()} == {
        "${{ steps.audit.outputs.sarif }}", "${{ steps.audit.outputs.exit-code }}",
    }  # fmt: skip
    assert (ROOT / ".github/actions/audit" / "../../.." / "constraints.txt").exists()


# --------------------------------------------------------------------------- hook, completion, image, schema


def test_hook_runs_a_command_that_there_is():
    (hook,) = YAML(typ="safe").load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    program, command = hook["entry"].split()

    assert {"id", "name", "entry", "language"} <= hook.keys()
    assert program == "vlcheck"
    assert command in typer.main.get_command(app).commands
    assert hook["id"] in (ROOT / "docs/ci.md").read_text("utf-8")


def test_completion_knows_commands_and_options():
    """As bash asks for it."""

    def completed(words: str) -> list[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "_VLCHECK_COMPLETE": "complete_bash",
                       "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}  # fmt: skip
        command = [sys.executable, "-m", "vlcheck"]
        return subprocess.run(command, env=environment, text=True, capture_output=True, check=False).stdout.split()

    assert completed("vlcheck au") == ["audit"]
    assert completed("vlcheck audit --base") == ["--baseline"]


def test_image_trains_a_config_of_the_mount():
    """The image's command exists, its files are there, and its config puts what must last on the mount."""
    text = (ROOT / "docs/serverless/Dockerfile").read_text("utf-8")
    spec = load(ROOT / "docs/serverless/run.yaml")
    mount = re.search(r"^WORKDIR (/mnt/\w+)$", text, re.MULTILINE)[1]
    (line,) = re.findall(r"^CMD (.*)$", text, re.MULTILINE)
    command, config = json.loads(line)

    assert command in typer.main.get_command(app).commands
    assert config.startswith(f"{mount}/")
    assert spec.training.output_dir.startswith(f"{mount}/")
    assert re.search(rf"HF_HOME={mount}/", text)
    assert spec.launch.max_retries
    assert spec.training.save_steps
    for copied in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in copied.split())


BASES = {"python:3.12-slim": ("github.com/docker-library/python, 3.12/slim-trixie and others", date(2026, 11, 27))}
"""Images that a Dockerfile here may begin with, and where and when their sources were seen."""


def test_image_is_built_as_docker_would_read_it():
    """Instructions and a base that there are, folders from the root, commands in exec form, every version pinned."""
    text = (ROOT / "docs/serverless/Dockerfile").read_text("utf-8")
    steps = [line.partition(" ")[::2] for line in re.sub(r"\\\n", "", text).splitlines() if line and line[0] != "#"]
    by_name = {name: [rest for other, rest in steps if other == name] for name, _ in steps}
    pinned = (ROOT / "constraints.txt").read_text("utf-8")
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    assert by_name.keys() <= {"FROM", "ENV", "WORKDIR", "COPY", "RUN", "STOPSIGNAL", "ENTRYPOINT", "CMD"}
    assert steps[0] == ("FROM", *BASES)
    assert SpecifierSet(wanted["requires-python"]).contains(re.search(r":(\d+\.\d+)", steps[0][1])[1])
    assert all(folder.startswith("/") for folder in by_name["WORKDIR"])
    assert by_name["STOPSIGNAL"] == ["SIGTERM"]
    assert all(isinstance(json.loads(form), list) for kind in ("ENTRYPOINT", "CMD") for form in by_name[kind])
    (run,) = by_name["RUN"]
    assert re.match(r"pip install -c constraints\.txt \. ", run)
    assert "PIP_NO_CACHE_DIR=1" in by_name["ENV"][0]
    for requirement in map(Requirement, wanted["dependencies"]):
        version = re.search(rf"^{re.escape(requirement.name)}==(\S+)$", pinned, re.MULTILINE)
        assert version is not None, requirement.name
        assert requirement.specifier.contains(version[1]), requirement.name


def test_image_starts_a_command_line_that_parses():
    """Entry point and arguments, as the command line itself reads them."""
    text = (ROOT / "docs/serverless/Dockerfile").read_text("utf-8")
    entry, command = (json.loads(re.search(rf"^{kind} (.*)$", text, re.MULTILINE)[1]) for kind in ("ENTRYPOINT", "CMD"))
    called = typer.main.get_command(app).commands[command[0]]
    with called.make_context(command[0], command[1:]) as read:
        assert read.params["config"] == Path("/mnt/runs/run.yaml")

    assert (entry, called.name) == (["vlcheck"], "train")


def test_image_is_accepted_by_preflight():
    """The run beside the Dockerfile, with its `launch:` block and what the image installs: nothing is found."""
    path = ROOT / "docs/serverless/run.yaml"
    spec = load(path)
    job = with_requirements(job_of_config(spec), path.with_name("Dockerfile"))
    report = judged(job, spec)

    assert [outcome.rule.code for outcome in report.found()] == []
    assert not report.with_verdict(Verdict.ERROR)
    passed = {outcome.rule.code for outcome in report.with_verdict(Verdict.PASSED)}
    assert passed >= {"VLC601", "VLC607", "VLC608", "VLC610", "VLC612", "VLC613", "VLC614", "VLC615", "VLC616"}


def test_schema_line_is_for_a_file_that_the_docs_write():
    """The editor's line names the file of the command before it; the starter is valid by it."""
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    from vlcheck.config.native import schema

    text = (ROOT / "docs/use.md").read_text("utf-8")
    name = re.search(r"^# yaml-language-server: \$schema=(\S+)$", text, re.MULTILINE)[1]
    assert f"`vlcheck schema > {name}`" in text
    starter = YAML(typ="safe").load((ROOT / "vlcheck/recipes/starter.yaml").read_text("utf-8"))
    jsonschema.Draft202012Validator(schema()).validate(starter)
