"""The verbose text report: whole output as literals, and what must never reach a terminal."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.reports.sample import EVERYTHING, SPEC, built, found, said
from vlcheck.finding import Finding, Outcome, Report, Severity, Verdict
from vlcheck.reports.text import render as render_text
from vlcheck.spec import Location, Lora, ModelRef, RunSpec

WHOLE = """\
train.yaml: google/gemma-4-31B-it, gemma4, 31.3B parameters, config from catalogue entry
  google/gemma-4-31B-it

error VLC103 clip-around  train.yaml:14
  vision_tower.encoder.layers.0.self_attn.q_proj: LoRA sits around the clip wrapper, so what it adds
  is never clamped
  measured: adapters 1,120, bounds [-3.25, 3.25], peak 3.0 GiB, inside no
  fix:
    target_modules:
      - q_proj.linear
  explains VLC105 merge-differs: outputs differ by 0.31 (and 1 more)

note VLC401 frozen-parts  train.yaml:9
  the projector is frozen

skipped: VLC201 label-shift: the processor is gated
  unlock: hf auth login
failed to run: VLC301 peak-memory: KeyError: 'gpu'
  this is a fault of vlcheck; --format json holds the traceback
not applicable: VLC107, VLC108 (reasons: --format json)
passed: VLC106 (112 clip wrappers), VLC406 (30 adapters)
note to the reader: patches were not seen

3 errors, 0 warnings, 1 note (2 explained by another); 2 rules passed, 2 not applicable, 1 skipped, 1 failed to run
"""


def render(report: Report, **options: Any) -> str:
    """The verbose form."""
    return render_text(report, verbose=True, **options)


def shown(*outcomes: Outcome, **options: object) -> str:
    return render(Report(SPEC, outcomes), **options)


def codes(text: str) -> list[str]:
    """Codes of the blocks, in order."""
    return re.findall(r"^(?:error|warning|note) (VLC\d+)", text, re.MULTILINE)


def test_whole_report():
    """Every kind of outcome, line by line."""
    assert render(EVERYTHING) == WHOLE


def test_empty_report():
    """A report over nothing still says so, and tolerates a subject without keys."""
    assert shown() == (
        "train.yaml: google/gemma-4-31B-it\n\n"
        "0 errors, 0 warnings, 0 notes; 0 rules passed, 0 not applicable, 0 skipped, 0 failed to run\n"
    )


def test_same_text_twice_and_no_durations():
    """Rendering is deterministic: a report's durations are not in the text."""
    assert render(EVERYTHING) == render(EVERYTHING)
    assert "0.12" not in render(EVERYTHING)


@pytest.mark.parametrize("width", [30, 40, 80, 200])
def test_lines_break_only_between_words(width):
    """A line is longer than the width only if a single word is; no word is cut, no line ends in a space."""
    text = render(EVERYTHING, width=width)

    assert text.split() == WHOLE.split()
    for line in text.splitlines()[:-1]:  # the summary is one line, for grep
        assert len(line) <= width or len(line.split()) == 1
        assert line == line.rstrip()


def test_colour_only_when_asked(monkeypatch):
    """Colour changes no character of the text, and the environment has no say."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "CLICOLOR_FORCE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    plain, colored = render(EVERYTHING), render(EVERYTHING, color=True)

    assert "\x1b" not in plain
    assert "\x1b[1;31merror\x1b[0m" in colored
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == plain


def test_markup_stays_literal():
    """Rich markup, emoji codes and links in messages and paths are shown as written."""
    where = Location("[bold]a.yaml[/bold]", 1)
    text = shown(found("VLC1", "x", Severity.ERROR, Finding("[red]no[/red] :smile:", where, {"[a]": "[b]"}, "[/]")))

    for literal in ("[bold]a.yaml[/bold]:1", "[red]no[/red] :smile:", "measured: [a] [b]", "fix: [/]"):
        assert literal in text


HOSTILE = "a\x1b[2Jb\x07\x9b31m\u202ec\udc80\x00\r\ud800"


@pytest.mark.parametrize("color", [False, True])
def test_control_characters_are_escaped(color):
    """Nothing a report quotes can move the cursor, ring, reverse text or break the encoding."""
    finding = Finding(HOSTILE, Location(HOSTILE, 1), {HOSTILE: [HOSTILE]}, HOSTILE)
    outcomes = (
        found(HOSTILE, HOSTILE, Severity.ERROR, finding),
        Outcome(built("VLC2", HOSTILE), Verdict.SKIPPED, reason=HOSTILE, unlock=HOSTILE),
        Outcome(built("VLC3", HOSTILE), Verdict.ERROR, reason=HOSTILE),
        Outcome(built("VLC4", HOSTILE), Verdict.NOT_APPLICABLE, reason=HOSTILE),
    )
    report = Report(SPEC, outcomes, {"model": HOSTILE, "family": HOSTILE, "config_origin": HOSTILE}, (HOSTILE,))
    text = render(report, color=color)
    text = re.sub(r"\x1b\[[0-9;]*m", "", text) if color else text

    assert text.isascii()
    assert all(c.isprintable() or c == "\n" for c in text)
    assert "a\\x1b[2Jb\\x07\\x9b31m\\u202ec\\udc80\\x00" in text


def test_errors_come_first_then_report_order():
    """Blocks are sorted by severity; equal ones keep the report's order."""
    text = shown(
        found("VLC4", "d", Severity.NOTE, said("m")),
        found("VLC3", "c", Severity.ERROR, said("m")),
        found("VLC2", "b", Severity.WARNING, said("m")),
        found("VLC1", "a", Severity.ERROR, said("m")),
    )

    assert codes(text) == ["VLC3", "VLC1", "VLC2", "VLC4"]


def test_many_findings_are_capped():
    """Five blocks of one rule, then the number that is left; the summary counts all."""
    text = shown(found("VLC1", "a", Severity.WARNING, *(said(f"m{n}") for n in range(8))))

    assert codes(text) == ["VLC1"] * 5
    assert "  m4\n  ... and 3 more of VLC1 (--format json lists all)\n" in text
    assert "0 errors, 8 warnings, 0 notes; 0 rules passed" in text


def test_chain_of_causes_has_one_block():
    """A consequence of a consequence stands under the first cause."""
    text = shown(
        found("VLC3", "c", Severity.ERROR, said("third"), by=("VLC2",)),
        found("VLC2", "b", Severity.ERROR, said("second"), by=("VLC1",)),
        found("VLC1", "a", Severity.NOTE, said("first")),
    )

    assert codes(text) == ["VLC1"]
    assert "  first\n  explains VLC3 c: third\n  explains VLC2 b: second\n" in text


def test_circle_of_causes_loses_nothing():
    """Rules that explain each other, or themselves, keep their own blocks."""
    text = shown(
        found("VLC1", "a", Severity.ERROR, said("m"), by=("VLC2", "VLC1")),
        found("VLC2", "b", Severity.ERROR, said("m"), by=("VLC1",)),
        found("VLC3", "c", Severity.ERROR, said("m"), by=("VLC3",)),
    )

    assert codes(text) == ["VLC1", "VLC2", "VLC3"]


def test_cause_that_was_not_found_explains_nothing():
    """An outcome whose cause is not among the findings has its own block."""
    assert codes(shown(found("VLC1", "a", Severity.ERROR, said("m"), by=("VLC9",)))) == ["VLC1"]


def test_default_points_at_a_key_where_there_is_no_file():
    """A run built in Python has no lines; its findings name the field."""
    spec = RunSpec(model=ModelRef(id="m"), lora=Lora())
    text = render(Report(spec, (found("VLC1", "a", Severity.NOTE, Finding("m", spec.where("lora.r"))),)))

    assert text.startswith("<python>: m\n\nnote VLC1 a  lora.r\n  m\n")
