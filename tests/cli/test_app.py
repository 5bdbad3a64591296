"""The command line: what it prints, how it exits, and what it does not import."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import textwrap
from importlib.resources import files
from pathlib import Path

import pytest

from vlcheck import __version__
from vlcheck.cli.app import app
from vlcheck.cli.options import ReportFormat, Threshold
from vlcheck.finding import Severity
from vlcheck.reports import RENDERERS
from vlcheck.reports.rulebook import explain_rule
from vlcheck.rules import RULES, every_rule
from vlcheck.rules.choosing import find

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
CHEAP = ("--offline", "--select", "VLC106")  # reads the model's config, builds nothing


@pytest.fixture
def config(tmp_path):
    """A sound config of a model that clips."""
    path = tmp_path / "train.yaml"
    path.write_text("model:\n  id: google/gemma-4-E2B-it\nlora:\n  target_modules: all-linear\n")
    return path


def start(*arguments: str | Path, **options: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "vlcheck", *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, **options)


# --------------------------------------------------------------------------- the whole command


def test_choices_are_those_of_the_library():
    """The options offer every renderer and every severity."""
    assert [form.value for form in ReportFormat] == list(RENDERERS)
    assert {threshold.name for threshold in Threshold} == {severity.name for severity in Severity}


def test_only_a_judgement_imports_torch(tmp_path):
    """Help, lists, the starter, the schema and every config error come without the heavy libraries."""
    script = """
        import contextlib, io, sys
        from vlcheck.cli.app import main
        open("bad.yaml", "w").write("model: 3\\n")
        open("good.yaml", "w").write("model: {id: google/gemma-4-E2B-it}\\nlora: {}\\n")
        open("sft.yaml", "w").write("model_name_or_path: a/b\\nuse_peft: true\\n")
        open("train.sh", "w").write("trl sft --model_name_or_path a/b --use_peft")
        open("ds.json", "w").write("{zero_optimization: {}}")
        for line in sys.stdin.read().splitlines():
            sys.argv = ["vlcheck", *line.split()[1:]]
            code = None
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                try:
                    main()
                except SystemExit as left:
                    code = left.code
            heavy = {"torch", "transformers", "peft", "bitsandbytes", "numpy"} & set(sys.modules)
            assert not heavy, (line, heavy)
            assert str(code) == line.split()[0], (line, code)
            if line == "2 explain VLC999":  # the last that has no run: what describes one costs a sixth of such a call
                assert not {"vlcheck.spec", "vlcheck.config.native"} & set(sys.modules)
    """
    lines = [
        "0 --help",
        "0 --version",
        "0 audit --help",
        "0 rules",
        "0 rules --format json",
        "0 explain VLC103",
        "2 explain VLC999",
        "0 init",
        "0 init mine.yaml --model a/b --framework trl",
        "0 convert mine.yaml",
        "0 convert sft.yaml",
        "0 convert train.sh",
        "2 convert bad.yaml",
        "2 audit ds.json",
        "0 schema",
        "2 audit bad.yaml",
        "2 audit missing.yaml",
        "2 audit good.yaml --select VLC999",
        "2 audit good.yaml --output .",
        "0 evaluate --help",
        "2 evaluate bad.yaml",
        "2 compare . .",
        "2 check-adapter . good.yaml",
        "2 check-adapter . bad.yaml",
        "2 check-adapter . good.yaml --select VLC101",
    ]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        input="\n".join(lines),
        cwd=tmp_path,
        env=ENVIRONMENT,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0


def test_closed_pipe_is_no_error(tmp_path):
    """A reader that leaves early, as `head` does, sees no traceback."""
    process = start("schema", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()

    assert process.stderr.read() == b""
    assert process.wait() == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_full_disk_is_an_error():
    """What could not be printed makes the command fail."""
    with Path("/dev/full").open("wb") as full:
        process = start("schema", stdout=full, stderr=subprocess.PIPE)

        assert process.communicate()[1] == b"error: cannot write to stdout: No space left on device\n"
        assert process.returncode == 2


def test_help_documents_exit_codes(vlcheck):
    """The codes stand where a CI author looks for them."""
    code, out, _ = vlcheck("audit", "--help")

    assert code == 0
    assert re.search(r"Exit codes: 0 .*; 1 .*; 2 .*; 130 ", " ".join(out.split()))


def test_version(vlcheck):
    """The version, on one line."""
    assert vlcheck("--version") == (0, f"vlcheck {__version__}\n", "")


# --------------------------------------------------------------------------- rules and explain


def test_rules_lists_every_rule(vlcheck):
    """One line a rule, in report order, and the same as JSON."""
    _, text, _ = vlcheck("rules")
    _, document, _ = vlcheck("rules", "--format", "json")

    assert [line.split()[:3] for line in text.splitlines()] == [[r.code, r.name, str(r.severity)] for r in every_rule()]
    assert [listed["code"] for listed in json.loads(document)] == [r.code for r in every_rule()]


@pytest.mark.parametrize("rule", every_rule(), ids=lambda rule: rule.code)
def test_explain_by_code_and_by_name(rule):
    """Code and name lead to the same rule, whose page holds the docstring."""
    assert find(rule.code.lower()) is find(rule.name) is rule
    assert explain_rule(rule, every_rule()).startswith(f"{rule.code} {rule.name} ({rule.severity})\n\n{rule.doc}\n")


def test_explain_prints_the_page(vlcheck):
    """By code and by name, from the command line."""
    rule = every_rule()[0]

    assert (
        vlcheck("explain", rule.code.lower())
        == vlcheck("explain", rule.name)
        == (0, explain_rule(rule, every_rule()), "")
    )


def test_explain_names_consequences_and_causes(vlcheck):
    """A rule that explains another is named on both pages."""
    cause = next(r for r in RULES if r.explains)
    consequence = next(r for r in RULES if r.code in cause.explains)

    assert f"{consequence.code} {consequence.name}" in vlcheck("explain", cause.code)[1].split("Explains: ")[1]
    assert f"{cause.code} {cause.name}" in vlcheck("explain", consequence.code)[1].split("Explained by: ")[1]


def test_explain_suggests_the_nearest_rule(vlcheck):
    """A slip is answered with what was probably meant."""
    code, out, err = vlcheck("explain", "clip-arond")

    assert (code, out) == (2, "")
    assert err.startswith("error: no rule 'clip-arond'; did you mean 'clip-around'?")


# --------------------------------------------------------------------------- init and schema

STARTER = (files("vlcheck") / "recipes" / "starter.yaml").read_text(encoding="utf-8")


def test_init_writes_the_starter(vlcheck, tmp_path):
    """The starter goes to vlcheck.yaml, to a named file, or to stdout."""
    assert vlcheck("init") == (0, "wrote vlcheck.yaml; next: vlcheck audit vlcheck.yaml\n", "")
    assert (tmp_path / "vlcheck.yaml").read_text(encoding="utf-8") == STARTER
    assert vlcheck("init", "-") == (0, STARTER, "")


def test_init_overwrites_only_by_force(vlcheck, tmp_path):
    """A file that exists is left alone unless --force is given."""
    target = tmp_path / "mine.yaml"
    target.write_text("precious")

    assert vlcheck("init", "mine.yaml") == (2, "", "error: mine.yaml exists; --force overwrites it\n")
    assert target.read_text() == "precious"
    assert vlcheck("init", "mine.yaml", "--force")[0] == 0
    assert target.read_text(encoding="utf-8") == STARTER


def test_init_names_the_recipes(vlcheck):
    """An unknown recipe is answered with the known ones."""
    code, _, err = vlcheck("init", "--recipe", "../spec")

    assert code == 2
    assert re.fullmatch(r"error: no recipe '\.\./spec'; recipes: (\S+, )*starter(, \S+)*\n", err)


@pytest.mark.parametrize(
    ("path", "complaint"),
    [(".", "cannot write .: is a folder"), ("no/where.yaml", "cannot write no: no such folder")],
)
def test_init_cannot_write(vlcheck, path, complaint):
    """A path that cannot be written is an error of one line."""
    assert vlcheck("init", path) == (2, "", f"error: {complaint}\n")


def test_schema_is_json(vlcheck):
    """The schema describes the config's sections."""
    code, out, _ = vlcheck("schema")

    assert code == 0
    assert {"model", "lora", "training"} <= set(json.loads(out)["properties"])


# --------------------------------------------------------------------------- audit: refused before the work


def test_config_errors_are_lines_of_stderr(vlcheck, tmp_path):
    """Each problem has a line with its place, and stdout stays empty."""
    (tmp_path / "bad.yaml").write_text("model: {}\nlora: {r: -1}\n")
    code, out, err = vlcheck("audit", "bad.yaml")

    assert (code, out) == (2, "")
    assert len(err.splitlines()) >= 2
    assert all(line.startswith("error: bad.yaml:") for line in err.splitlines())


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--select", "VLC1,VLC999"], "no rule 'VLC999'"),
        (["--ignore", "clip-arond"], "no rule 'clip-arond'; did you mean 'clip-around'?"),
        (["--select", ","], "--select holds no code"),
        (["--ignore", ""], "--ignore holds no code"),
        (["--select", "VLC101", "--select", "VLC102", "--ignore", "VLC1"], "--select and --ignore leave no rule"),
        (["--output", "."], "cannot write .: is a folder"),
        (["--output", "no/where.json"], "cannot write no: no such folder"),
        (["--output", "train.yaml"], "--output train.yaml would overwrite the config"),
    ],
)
def test_options_are_checked_before_the_audit(vlcheck, config, options, complaint):
    """A mistake in the options is one line, and comes before any work."""
    code, out, err = vlcheck("audit", config, *options)

    assert (code, out) == (2, "")
    assert err.startswith(f"error: {complaint}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("options", [["--format", "yaml"], ["--fail-on", "fatal"], ["--unknown"], []])
def test_usage_errors_exit_with_two(vlcheck, options):
    """What the command line itself cannot read is an error too."""
    assert vlcheck("audit", *options)[:2] == (2, "")


# --------------------------------------------------------------------------- audit: the engine runs


@pytest.mark.parametrize(("options", "after_model"), [((), " judged: Gemma 4, "), (("--verbose",), ", Gemma 4, ")])
def test_audit_prints_the_report(vlcheck, config, options, after_model):
    """The report is on stdout, without colour off a terminal, and stderr is empty; in full with --verbose."""
    code, out, err = vlcheck("audit", config, *CHEAP, *options)

    assert (code, err) == (0, "")
    assert " ".join(out.split()).startswith(f"{config}: google/gemma-4-E2B-it{after_model}")
    assert "\x1b" not in out
    assert out.endswith("1 rule passed, 0 not applicable, 0 skipped, 0 failed to run\n")


def test_audit_writes_the_report(vlcheck, config, tmp_path):
    """With --output the file holds the report, and stdout its summary in one line."""
    code, out, err = vlcheck("audit", config, *CHEAP, "--format", "json", "--output", "report.json")
    document = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))

    assert (code, err) == (0, "")
    assert out == (
        "0 errors, 0 warnings, 0 notes; 1 rule passed, 0 not applicable, 0 skipped, 0 failed to run; "
        "report written to report.json\n"
    )
    assert [(outcome["code"], outcome["verdict"]) for outcome in document["outcomes"]] == [("VLC106", "passed")]


def test_fail_on_sets_the_threshold(vlcheck, tmp_path):
    """A note exits 0 by default and 1 with --fail-on note: clipping is inactive in the 31B model."""
    (tmp_path / "train.yaml").write_text("model: {id: google/gemma-4-31B-it}\nlora: {target_modules: all-linear}\n")
    code, out, _ = vlcheck("audit", "train.yaml", *CHEAP)

    assert (code, out.count("note VLC106 clip-inactive (line 1): ")) == (0, 1)
    assert vlcheck("audit", "train.yaml", *CHEAP, "--fail-on", "warning")[0] == 0
    assert vlcheck("audit", "train.yaml", *CHEAP, "--fail-on", "note")[0] == 1


def test_strict_counts_skips(vlcheck, config):
    """A skipped rule exits 2 under --strict: clip bounds cannot be judged without weights."""
    select = ("--offline", "--select", "VLC106,clip-bounds")

    assert vlcheck("audit", config, *select)[0] == 0
    assert vlcheck("audit", config, *select, "--strict")[0] == 2


def test_unknown_model_is_a_config_error(vlcheck, tmp_path):
    """What only the engine can find out about a config is reported as such."""
    (tmp_path / "train.yaml").write_text("model: {id: ./here}\nlora: {target_modules: all-linear}\n")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "config.json").write_text('{"model_type": "bert"}')
    code, out, err = vlcheck("audit", "train.yaml", *CHEAP)

    assert (code, out) == (2, "")
    assert err.startswith("error: train.yaml:1:")


def test_patch_cannot_speak_or_end_the_audit(vlcheck, config, tmp_path, monkeypatch):
    """The user's own code is found in the working folder; its chatter, an exit and Ctrl-C in it are contained."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "fixes.py").write_text(
        "import signal, sys, warnings\n"
        "def chat():\n    print(1); print(2, file=sys.stderr); warnings.warn('3')\n"
        "def leave():\n    sys.exit(0)\n"
        "def interrupt():\n    signal.raise_signal(signal.SIGINT)\n"
    )
    sound = config.read_text().replace("google/gemma-4-E2B-it", "vlcheck/tiny-gemma4")

    def audit(function: str) -> tuple[int, str, str]:
        config.write_text(sound.replace("lora:", f"  patch: fixes:{function}\nlora:"))
        return vlcheck("audit", config, "--offline", "--select", "VLC103", "--allow-code", "--verbose")

    _, out, err = audit("chat")
    assert "note to the reader: model.patch fixes:chat was run\n" in out
    assert err == ""
    assert audit("leave") == (2, "", "error: code that the audit ran called sys.exit(0)\n")
    assert audit("interrupt") == (130, "", "interrupted\n")


@pytest.mark.slow
def test_terminal_shows_spinner_and_colour(config):
    """On a terminal the slow import is bridged by a spinner, which is gone when the report comes in colour.

    By default test_quiet.py looks at the spinner of a terminal, and test_text.py at the colours.
    """
    ours, theirs = pty.openpty()
    environment = {k: v for k, v in ENVIRONMENT.items() if k != "NO_COLOR"} | {"TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-m", "vlcheck", "audit", config.name, *CHEAP]
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment, cwd=config.parent)
    os.close(theirs)
    seen = b""
    while True:
        try:
            seen += os.read(ours, 65536)
        except OSError:  # Linux's way to say that the terminal was hung up
            break
    before, _, report = seen.decode().partition("google/gemma-4-E2B-it")

    assert process.wait() == 0
    assert "importing torch" in before
    assert "\x1b[32mpassed: \x1b[0mVLC106" in report
    assert report.rstrip().endswith("0 failed to run\x1b[0m")


def test_a_command_alone_leaves_the_others_where_they_were(vlcheck):
    """Only the command that is named is built; the next call in the process finds them all."""
    every = [*app.registered_commands]
    assert vlcheck("rules")[0] == 0
    assert app.registered_commands == every
    code, _, err = vlcheck("audti", "x")
    assert code == 2
    assert "Did you mean 'audit'" in err
