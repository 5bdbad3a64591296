"""Equal findings of real runs are one in the report, and all of them in the document for programs."""

from __future__ import annotations

import json
from pathlib import Path

from tests.label_samples import rows
from tests.model.families.models import entry
from tests.samples import run, targets
from vlcheck import audit, check_collator
from vlcheck.finding import Report
from vlcheck.model.families import family_of
from vlcheck.processing.fallback import build_fallback
from vlcheck.reports import RENDERERS
from vlcheck.reports.text import render
from vlcheck.spec import Intent

LARGE = "google/gemma-4-31B-it"


def audited(tmp_path: Path, lora: object, code: str) -> Report:
    """One rule's report on a tiny Gemma 4 with these targets."""
    spec = run(lora=lora, intent=Intent()).spec(tmp_path)
    return audit(spec, select=(code,), offline=True)


def findings(report: Report) -> list[dict]:
    """Those of the JSON report."""
    return [each for outcome in json.loads(RENDERERS["json"](report))["outcomes"] for each in outcome["findings"]]


def test_two_frozen_parts_are_one_note(tmp_path):
    """VLC404 about tower and projector, with the same numbers."""
    report = audited(tmp_path, targets(r".*language_model.*\.q_proj"), "VLC404")
    text = " ".join(render(report).split())

    assert text.count("note VLC404") == 1
    assert "(2 findings): vision tower is not trained: vision tower 0, projector 0" in text
    assert "; likewise: projector; fix: intent: {vision: freeze}; or target_modules: all-linear; or intent:" in text
    assert "0 errors, 0 warnings, 2 notes;" in text
    assert len(findings(report)) == 2
    assert render(report, verbose=True).count("\nnote VLC404") == 2


def test_refused_parent_is_named_without_its_modules(tmp_path):
    """VLC102 on a parent of clip wrappers: PEFT's first sentence, where the document holds the whole dump."""
    report = audited(tmp_path, targets(("encoder",)), "VLC102")

    assert "\n  PEFT refuses the adapters: Target module Gemma4VisionEncoder(...) is not supported. " in render(report)
    assert max(map(len, render(report).splitlines())) <= 100
    (finding,) = findings(report)
    assert finding["measured"]["PEFT says"].count("\n") > 20


def raising(rows: list[dict]) -> dict:
    """A collator that takes nothing."""
    raise KeyError("pixel_values")


def test_collator_that_always_fails_is_one_error():
    """VLC225 names each conversation, in one block."""
    values = entry(LARGE).config
    many = [conversation for conversation in rows() for _ in range(12)]
    report = check_collator(raising, build_fallback(family_of(values), values), many, model=LARGE, select=("VLC225",))
    text = render(report)

    count = len(findings(report))
    assert count > 5
    assert text.count("error VLC225") == 1
    assert f"({count} findings)" in text
    assert text.count("KeyError: 'pixel_values'") == 2  # in the message, and as what was measured
