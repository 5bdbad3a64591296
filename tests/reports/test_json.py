"""The JSON report: the whole document as a literal, and values that JSON has no number for."""

from __future__ import annotations

import json

from tests.reports.sample import EVERYTHING, SPEC, built, found, said
from vlcheck import __version__
from vlcheck.finding import Finding, Outcome, Report, Severity, Verdict
from vlcheck.reports.json import render
from vlcheck.spec import Location


def outcome(code: str, name: str, verdict: str, **others: object) -> dict[str, object]:
    """The document's outcome, with the sample's usual values for what is left out."""
    usual = {
        "severity": "error",
        "title": "Something is wrong.",
        "findings": [],
        "examined": [],
        "reason": "",
        "unlock": "",
        "explained_by": [],
        "seconds": 0.0,
    }
    return {**usual, "code": code, "name": name, "verdict": verdict, **others}


def finding(
    message: str, line: int = 14, fix: str = "", severity: str = "error", **measured: object
) -> dict[str, object]:
    where = {"file": "train.yaml", "line": line, "column": 3, "key": "lora.target_modules"}
    return {"severity": severity, "message": message, "where": where, "measured": measured, "fix": fix}


WHOLE = {
    "schema": "vlcheck-report",
    "version": 1,
    "vlcheck": __version__,
    "config": "train.yaml",
    "model": {
        "model": "google/gemma-4-31B-it",
        "family": "gemma4",
        "parameters": 31273088876,
        "config_origin": "catalogue entry google/gemma-4-31B-it",
    },
    "versions": {"torch": "2.13.0"},
    "remarks": ["patches were not seen"],
    "summary": {
        "errors": 3,
        "warnings": 0,
        "notes": 1,
        "explained": 2,
        "passed": 2,
        "not_applicable": 2,
        "skipped": 1,
        "failed": 1,
        "ignored": 0,
    },
    "outcomes": [
        outcome(
            "VLC401",
            "frozen-parts",
            "found",
            severity="note",
            findings=[finding("the projector is frozen", 9, severity="note")],
        ),
        outcome(
            "VLC103",
            "clip-around",
            "found",
            title="LoRA sits around a clip wrapper.",
            findings=[
                finding(
                    "vision_tower.encoder.layers.0.self_attn.q_proj: LoRA sits around the clip wrapper, so what it "
                    "adds is never clamped",
                    fix="target_modules:\n  - q_proj.linear",
                    adapters=1120,
                    bounds=[-3.25, 3.25],
                    peak_bytes=3221225472,
                    inside=False,
                )
            ],
            examined=[{"count": 112, "what": "clip wrappers"}],
            seconds=0.1235,
        ),
        outcome(
            "VLC105",
            "merge-differs",
            "found",
            findings=[finding("outputs differ by 0.31"), finding("again")],
            explained_by=["VLC103"],
        ),
        outcome("VLC106", "clip-bounds", "passed", examined=[{"count": 112, "what": "clip wrappers"}], seconds=0.5),
        outcome("VLC406", "idle-audio-adapter", "passed", examined=[{"count": 30, "what": "adapters"}]),
        outcome("VLC107", "clip-inactive", "not-applicable", reason="the family has no clip wrapper"),
        outcome("VLC108", "clip-replaced", "not-applicable", reason="the family has no clip wrapper"),
        outcome("VLC201", "label-shift", "skipped", reason="the processor is gated", unlock="hf auth login"),
        outcome(
            "VLC301",
            "peak-memory",
            "error",
            reason="Traceback (most recent call last):\n  File 'x'\nKeyError: 'gpu'\n",
        ),
    ],
    "ignored": [],
}


def test_whole_report():
    """Every kind of outcome, key by key."""
    assert json.loads(render(EVERYTHING)) == WHOLE


def test_layout():
    """Two spaces, the schema first, a final line end, and text as UTF-8 rather than as escapes."""
    text = render(Report(SPEC, (found("VLC1", "a", Severity.NOTE, said("±5 % × 日本")),)))

    assert text.startswith('{\n  "schema": "vlcheck-report",\n  "version": 1,\n')
    assert text.endswith("}\n")
    assert "±5 % × 日本" in text


def test_no_value_breaks_the_document():
    """Infinities, NaN and types that JSON lacks become text; tuples and sets become lists."""
    measured = {
        "inf": float("inf"),
        "-inf": float("-inf"),
        "nan": float("nan"),
        "deep": ({"x": [float("nan")]}, {2, 1}),
        "dtype": complex(1, 2),
        3: True,
    }
    report = Report(
        SPEC, (found("VLC1", "a", Severity.NOTE, Finding("m", Location("f"), measured)),), {"parameters": float("inf")}
    )
    document = json.loads(render(report), parse_constant=lambda name: 1 / 0)

    assert document["outcomes"][0]["findings"][0]["measured"] == {
        "inf": "inf",
        "-inf": "-inf",
        "nan": "nan",
        "deep": [{"x": ["nan"]}, [1, 2]],
        "dtype": "(1+2j)",
        "3": True,
    }
    assert document["model"] == {"parameters": "inf"}


def test_hostile_text_round_trips():
    """Control characters and unpaired surrogates survive, and the document can be encoded."""
    hostile = "\x1b[2J\x00\u2028\udc80\ud800"
    encoded = render(Report(SPEC, (Outcome(built("VLC1", "a"), Verdict.SKIPPED, reason=hostile),))).encode()

    assert b"\x1b" not in encoded
    assert json.loads(encoded)["outcomes"][0]["reason"] == hostile
