"""Every format takes every kind of outcome, whatever the texts hold, and is what its schema says."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.reports.sample import EVERYTHING, SPEC, built, found, said
from vlcheck.finding import Examined, Finding, Ignored, Outcome, Report, Severity, Verdict
from vlcheck.reports import RENDERERS
from vlcheck.spec import Location

SCHEMAS = Path(__file__).parents[2] / "fixtures" / "schemas"
HOSTILE = (
    "plain", "two\nlines\r\nand\rthree", "]]> <b>&amp;</b> <!-- --> </details>", "\x00\x07\x1b[2J\x7f\x85\u2028\u202e",
    "\ud800 \udc80 \ufffe \uffff", "::error::x\n::stop-commands::y\n##[error]z", "100% a,b:c", "x" * 10_240,
    "``` `a` ````\n- *b* | [c](http://d) @e #1 ~~f~~", "é 日本 🙂",
)  # fmt: skip
HERE = Location("train.yaml", 14, 3, "lora.target_modules")


def outcomes(text: str) -> dict[str, Outcome]:
    """One outcome of each kind that says this text wherever a text can stand."""
    finding = Finding(text, HERE, {text: [text, 1.5], "n": float("nan")}, text)
    rule = built("VLC999", "any", title=text)
    comment, held = Ignored(finding, text, Location("train.yaml", 13, 9)), Ignored(finding, text)
    kinds = {
        **{str(level): found("", "any", level, finding, finding, by=("VLC900",)) for level in Severity},
        "found in code": found("", "any", Severity.ERROR, Finding(f"{text}!", Location("<python>", key=text))),
        "found elsewhere": found("", "any", Severity.ERROR, Finding(text, Location(f"/a b/{text[:200]}.yaml"))),
        "found and silent": Outcome(rule, Verdict.FOUND),
        "found and ignored": Outcome(rule, Verdict.FOUND, (finding,), ignored=(comment,)),
        "ignored by a comment": Outcome(rule, Verdict.IGNORED, ignored=(comment,)),
        "held by a baseline": Outcome(rule, Verdict.IGNORED, ignored=(held,)),
        "passed": Outcome(rule, Verdict.PASSED, examined=(Examined(3, text),), reason=text),
        "not applicable": Outcome(rule, Verdict.NOT_APPLICABLE, reason=text),
        "skipped": Outcome(rule, Verdict.SKIPPED, reason=text, unlock=text),
        "failed": Outcome(rule, Verdict.ERROR, reason=f"Traceback\n{text}", seconds=1.23456),
    }
    return {
        kind: replace(outcome, rule=replace(outcome.rule, code=f"VLC{900 + number}"))
        for number, (kind, outcome) in enumerate(kinds.items())
    }


KINDS = list(outcomes(""))


def reported(*kinds: Outcome, text: str = "") -> Report:
    return Report(SPEC, kinds, {"model": text, "gpu": text}, (text,), {"torch": text})


# --------------------------------------------------------------------------- schemas


@cache
def json_schema(name: str) -> Any:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    schema = json.loads((SCHEMAS / name).read_text("utf-8"))
    return jsonschema.validators.validator_for(schema)(schema)


def assert_valid(form: str, text: str) -> None:
    """What a program that reads this format would refuse fails; text for people has no schema."""
    encoded = text.encode("utf-8")
    if form == "junit":
        xmlschema = pytest.importorskip("xmlschema", reason="xmlschema is not installed")
        junit_schema(xmlschema).validate(ElementTree.fromstring(encoded))
    elif form in ("json", "sarif"):
        document = json.loads(encoded, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        json_schema({"json": "vlcheck-report-1.json", "sarif": "sarif-2.1.0.json"}[form]).validate(document)


@cache
def junit_schema(xmlschema: Any) -> Any:
    return xmlschema.XMLSchema(str(SCHEMAS / "junit-10.xsd"))


@pytest.mark.parametrize("form", RENDERERS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_format_takes_every_kind_of_outcome(form, kind):
    """Alone in a report, with the texts that break documents; nothing moves a cursor."""
    for hostile in HOSTILE:
        text = RENDERERS[form](reported(outcomes(hostile)[kind], text=hostile))

        assert text.endswith("\n")
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\x85\u2028\u202e]", text)
    assert_valid(form, text)


@pytest.mark.parametrize("form", ["json", "sarif", "junit"])
@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_documents_are_valid(form, hostile):
    """All kinds in one report."""
    assert_valid(form, RENDERERS[form](reported(*outcomes(hostile).values(), text=hostile)))


@pytest.mark.parametrize("form", ["json", "sarif", "junit"])
def test_a_document_that_is_not_valid_would_be_seen(form):
    """The schemas have power."""
    text = RENDERERS[form](EVERYTHING)
    assert_valid(form, text)
    for old, new in (
        ('"summary"', '"sumary"'),
        ('"level"', '"livel"'),
        ("<skipped ", "<skiped "),
        ("</skipped", "</skiped"),
    ):
        text = text.replace(old, new)
    with pytest.raises(Exception, match=r"sumary|livel|skiped"):
        assert_valid(form, text)


@pytest.mark.parametrize("form", RENDERERS)
def test_kinds_are_kept_apart(form):
    """No two verdicts read alike: a skipped rule is not shown as a passed one, nor an ignored finding as none."""
    kinds = outcomes("text")
    alone = {kind: replace(outcome, rule=replace(outcome.rule, code="VLC900")) for kind, outcome in kinds.items()}
    texts = {kind: RENDERERS[form](reported(outcome)) for kind, outcome in alone.items()}

    assert {(a, b) for a in KINDS for b in KINDS if a < b and texts[a] == texts[b]} == set()


# --------------------------------------------------------------------------- SARIF


def sarif(report: Report) -> dict[str, Any]:
    (run,) = json.loads(RENDERERS["sarif"](report))["runs"]
    return run


def test_sarif_tells_all():
    """Help, places, remedies; what became of the other rules; consequences name their causes."""
    run = sarif(EVERYTHING)
    rules = run["tool"]["driver"]["rules"]
    results = run["results"]

    assert [rule["id"] for rule in rules] == [outcome.rule.code for outcome in EVERYTHING.outcomes]
    assert rules[1]["help"]["text"] == "LoRA sits around a clip wrapper.\n\nMore: vlcheck explain VLC103"
    assert [(r["ruleId"], rules[r["ruleIndex"]]["id"], r["level"]) for r in results] == [
        ("VLC401", "VLC401", "note"), ("VLC103", "VLC103", "error"), *[("VLC105", "VLC105", "error")] * 2,
    ]  # fmt: skip
    assert results[1]["message"]["text"].endswith("never clamped\nfix: target_modules:\n  - q_proj.linear")
    assert results[1]["locations"] == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "train.yaml"}, "region": {"startLine": 14, "startColumn": 3},
            },
            "logicalLocations": [{"fullyQualifiedName": "lora.target_modules", "kind": "member"}],
        }
    ]  # fmt: skip
    assert results[2]["properties"]["explainedBy"] == ["VLC103"]
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    assert [(n.get("associatedRule", {}).get("id"), n["descriptor"]["id"], n["level"])
            for n in invocation["toolExecutionNotifications"]] == [
        ("VLC106", "passed", "none"), ("VLC406", "passed", "none"), ("VLC107", "not-applicable", "none"),
        ("VLC108", "not-applicable", "none"), ("VLC201", "skipped", "note"), ("VLC301", "error", "error"),
        (None, "remark", "note"),
    ]  # fmt: skip


def test_sarif_suppressions_say_who_and_why():
    """A comment of the config is in the source, a baseline is not; the justification is the user's."""
    kinds = outcomes("why")
    (by_comment,), (by_baseline,) = (
        sarif(reported(kinds[kind]))["results"][0]["suppressions"]
        for kind in ("ignored by a comment", "held by a baseline")
    )

    assert (by_comment["kind"], by_comment["justification"]) == ("inSource", "why")
    assert by_comment["location"]["physicalLocation"]["region"]["startLine"] == 13
    assert by_baseline == {"kind": "external", "justification": "why"}


def fingerprints(*findings: Finding) -> list[str]:
    results = sarif(reported(found("VLC103", "a", Severity.ERROR, *findings)))["results"]
    return [result["partialFingerprints"]["vlcheck/v1"] for result in results]


def test_fingerprints_survive_moved_lines():
    """A finding is followed by what it is about: not by its line, nor by what was measured in it."""
    first = fingerprints(said("3 of 8 adapters (line 9) are idle", 14), said("another"))

    assert first == fingerprints(said("4 of 9 adapters (line 31) are idle", 70), said("another", 2))
    assert len({*first, *fingerprints(said("3 of 8 towers (line 9) are idle", 14))}) == 3
    twins = fingerprints(said("row 3 is empty"), said("row 7 is empty"))
    assert len(set(twins)) == 2
    assert twins == fingerprints(said("row 3 is empty"), said("row 9 is empty"))


def test_fingerprints_do_not_know_the_machine(tmp_path):
    """The folder that a checkout lies in is no part of a finding."""
    there, here = (
        Finding(f"{folder}/data/a.jpg is broken", Location(f"{folder}/run.yaml", 1, 1, "data.path"))
        for folder in ("/home/a/project", str(tmp_path))
    )
    assert fingerprints(there) == fingerprints(here)


# --------------------------------------------------------------------------- JUnit, GitHub, Markdown


@pytest.mark.parametrize(
    ("fail_on", "failing"), [(Severity.ERROR, ["VLC103", "VLC105"]), (Severity.NOTE, ["VLC401", "VLC103", "VLC105"])]
)
def test_junit_fails_what_the_exit_code_fails(fail_on, failing):
    """A note is the output of a test that passed, unless notes fail."""
    (suite,) = ElementTree.fromstring(RENDERERS["junit"](EVERYTHING, fail_on=fail_on))
    cases = suite.findall("testcase")
    names = {tag: [c.get("name", "").split()[0] for c in cases if c.find(tag) is not None]
             for tag in ("failure", "error", "skipped")}  # fmt: skip

    assert names == {"failure": failing, "error": ["VLC301"], "skipped": ["VLC107", "VLC108", "VLC201"]}
    assert [suite.get(key) for key in ("tests", "failures", "errors", "skipped")] == ["9", str(len(failing)), "1", "3"]
    assert cases[-2].find("skipped").attrib == {
        "type": "skipped", "message": "skipped: the processor is gated; to unlock: hf auth login",
    }  # fmt: skip


GITHUB = """\
::error file=train.yaml,line=14,col=3,title=VLC103 clip-around::vision_tower.encoder.layers.0.self_attn.q_proj: LoRA \
sits around the clip wrapper, so what it adds is never clamped%0Afix: target_modules:%0A  - q_proj.linear
::error file=train.yaml,line=14,col=3,title=VLC105 merge-differs::outputs differ by 0.31
::error file=train.yaml,line=14,col=3,title=VLC105 merge-differs::again
::notice file=train.yaml,line=9,col=3,title=VLC401 frozen-parts::the projector is frozen
::error title=VLC301 peak-memory failed to run::a fault of vlcheck: KeyError: 'gpu'
skipped: VLC201 label-shift: the processor is gated; to unlock: hf auth login
passed: VLC106, VLC406
not-applicable: VLC107, VLC108
remark: patches were not seen
3 errors, 0 warnings, 1 note (2 explained by another); 2 rules passed, 2 not applicable, 1 skipped, 1 failed to run
"""


def test_github_annotations():
    """Whole, as the runner reads it."""
    assert RENDERERS["github"](EVERYTHING) == GITHUB


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_commands_the_runner(hostile):
    """Every line that begins as a command is one of ours, and has one value in each property."""
    for kind in KINDS:
        for line in RENDERERS["github"](reported(outcomes(hostile)[kind], text=hostile)).splitlines():
            if line.startswith(("::", "##")):
                assert re.match(r"::(error|warning|notice) (\w+=[^,:]*)(,\w+=[^,:]*)*::", line), line


def test_markdown_shows_what_is_quoted():
    """No quoted text marks up, mentions anyone or leaves its fence."""
    text = RENDERERS["markdown"](reported(*outcomes("``` *a* <b> @c [d](e)\n# f").values()))

    fenced = re.compile(r"^(`{3,})yaml\n(.*?)\n\1$", re.DOTALL | re.MULTILINE)
    assert all(body == "``` *a* <b> @c [d](e)\n# f" for _, body in fenced.findall(text))
    assert len(fenced.findall(text)) == 3
    outside = fenced.sub("", text)
    assert "\\*a\\* &lt;b&gt; &#64;c \\[d\\](e) \\# f" in outside
    assert not re.search(r"(?<!\\)\*a|<b>|@c", outside)


def test_markdown_of_the_sample():
    """Roots first with their remedies, then what did not run."""
    text = RENDERERS["markdown"](EVERYTHING)

    assert text.startswith("## vlcheck: train.yaml\n\ngoogle/gemma-4-31B-it: **3 errors, ")
    assert text.index("VLC103 clip-around") < text.index("- explains VLC105") < text.index("VLC401")
    assert "Fix:\n\n```yaml\ntarget_modules:\n  - q_proj.linear\n```" in text
    assert "- VLC201 label-shift: the processor is gated; to unlock: hf auth login" in text


def test_a_summary_fits_where_it_goes():
    """GitHub takes 1 MiB; a hundred rules with long findings are less."""
    many = [found(f"VLC{n}", "any", Severity.ERROR, *[said(f"{i} {'x' * 5_000}", i) for i in range(8)])
            for n in range(100, 200)]  # fmt: skip
    assert len(RENDERERS["markdown"](reported(*many)).encode()) < 2**20


@pytest.mark.parametrize(("form", "sign"), [
    ("sarif", '"level": "note"'), ("junit", "system-out"), ("github", "::notice "), ("markdown", "note VLC101"),
    ("json", '"severity": "note"'), ("text", "note"),
])  # fmt: skip
def test_what_the_evidence_weighs_is_shown(form, sign):
    """A finding that is a note of a rule that is an error is a note in every format."""
    light = found("VLC101", "any", Severity.ERROR, Finding("said", HERE, severity=Severity.NOTE))
    text = RENDERERS[form](reported(light))

    assert sign in text
    assert not re.search(r'::error|"level": "error",\s+"message"|<failure|error VLC101', text)
