"""The text report: whole output as literals, and what must never reach a terminal."""

from __future__ import annotations

import re

import pytest

from tests.reports.sample import EVERYTHING, SPEC, built, found, said
from vlcheck.evidence.judged import told_by
from vlcheck.finding import Finding, Outcome, Report, Severity, Verdict
from vlcheck.reports import RENDERERS
from vlcheck.reports.text import render
from vlcheck.spec import Hardware, Location, Lora, ModelRef, RunSpec

WHOLE = """\
train.yaml: google/gemma-4-31B-it

error VLC103 clip-around  train.yaml:14
  vision_tower.encoder.layers.0.self_attn.q_proj: LoRA sits around the clip wrapper, so what it adds
  is never clamped
  fix:
    target_modules:
      - q_proj.linear
  measured: adapters 1,120, bounds [-3.25, 3.25], peak 3.0 GiB, inside no
  explains VLC105 merge-differs: outputs differ by 0.31 (and 1 more)

note VLC401 frozen-parts (line 9): the projector is frozen

judged: gemma4, 31.3B parameters, config from catalogue entry; no card named; torch 2.13.0; patches
  were not seen.
failed to run: VLC301 peak-memory: KeyError: 'gpu'
  this is a fault of vlcheck; --format json holds the traceback
skipped: VLC201; to unlock, hf auth login
passed: VLC106, VLC406 (2 rules)
not applicable: VLC107-108 (2 rules)
3 errors, 0 warnings, 1 note (2 explained by another); 2 rules passed, 2 not applicable, 1 skipped, 1 failed to run
"""


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
    text = shown(found("VLC1", "a", Severity.WARNING, *(said(f"m{n}", number=n) for n in range(8))))

    assert codes(text) == ["VLC1"] * 5
    assert "  m4\n  measured: number 4\n  ... and 3 more of VLC1 (--format json lists all)\n" in text
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

    assert text.startswith("<python>: m\n\nnote VLC1 a (lora.r): m\n")


SUBJECT = {
    "model": "m/m",
    "family": "Gemma 4",
    "parameters": 31_273_088_876,
    "config_origin": "Hugging Face cache of m/m",
    "patches": "not seen",
    "processor": "stand-in for Gemma 4: real classes",
    "collator": "my.collate",
    "rows": 32,
    "built_in_rows": 1,
    "longest_row_tokens": 1355,
    "scanned_rows": 3680,
    "gpu": "H100 80GB",
}


def test_paragraph_says_what_was_judged():
    """Model, config, collator, processor, rows, longest row, card, versions, patches; then other remarks."""
    remarks = (*told_by(SUBJECT), "model.x is odd", "torch 9 is outside the tested range")
    text = render(Report(SPEC, (), SUBJECT, remarks, {"torch": "2.13.0+cpu", "peft": "0.21.2"}))

    assert text == (
        "train.yaml: m/m\n\n"
        "judged: Gemma 4, 31.3B parameters, config from Hugging Face cache; labels of my.collate (processor:\n"
        "  stand-in for Gemma 4) on 32 rows of the run's data and 1 built-in row, the longest 1,355 tokens;\n"
        "  3,680 rows of the data scanned; card H100 80GB; torch 2.13.0, peft 0.21.2; patches of your script\n"
        "  not seen (name them in model.patch); model.x is odd; torch 9 is outside the tested range.\n"
        "0 errors, 0 warnings, 0 notes; 0 rules passed, 0 not applicable, 0 skipped, 0 failed to run\n"
    )


def test_paragraph_leaves_out_what_no_rule_looked_at():
    """Nothing is claimed of labels, data or a card that the run names and no rule asked for."""
    spec = RunSpec(model=ModelRef(id="m"), lora=Lora(), hardware=Hardware(gpu="h100"))

    assert "judged: Gemma 4.\n" in render(Report(spec, (), {"model": "m", "family": "Gemma 4"}))


def test_skipped_rules_are_grouped_by_what_unlocks_them():
    """Two reasons with one way out are one line; without a way out the reason stands."""

    def skipped(code: str, reason: str, unlock: str = "") -> Outcome:
        return Outcome(built(code, "x"), Verdict.SKIPPED, reason=reason, unlock=unlock)

    text = shown(
        skipped("VLC201", "gated", "hf auth login"),
        skipped("VLC202", "no template", "hf auth login"),
        skipped("VLC204", "gated", "hf auth login"),
        skipped("VLC205", "unknown family"),
    )

    assert "skipped: VLC201-202, VLC204 (3 rules); to unlock, hf auth login\nskipped: VLC205; unknown family\n" in text


def test_many_rules_are_counted():
    """Codes that make more than a line are left to --verbose."""
    text = shown(*(Outcome(built(f"VLC{n}", "x"), Verdict.PASSED) for n in range(100, 140, 2)))

    assert "\npassed: 20 rules (--verbose names them)\n" in text


def test_equal_findings_are_one_block():
    """One message with a list, every line of the config, every remedy, and the number of findings."""
    text = shown(
        found(
            "VLC404",
            "frozen-part",
            Severity.WARNING,
            Finding("vision tower is not trained: 0, 0", Location("train.yaml", 3), {"linears": 5}, "vision: train"),
            Finding("projector is not trained: 0, 0", Location("train.yaml", 4), {"linears": 5}, "projector: train"),
        )
    )

    assert text.partition("\n\n")[2].startswith(
        "warning VLC404 frozen-part  train.yaml:3, 4 (2 findings)\n"
        "  vision tower is not trained: 0, 0\n"
        "  likewise: projector\n"
        "  fix: vision: train\n"
        "  fix: projector: train\n"
        "  measured: linears 5\n\n"
        "0 errors, 2 warnings, 0 notes;"
    )


def test_equal_notes_are_one_paragraph():
    """As blocks, in a line."""
    notes = (Finding(f"{part} is idle", Location("train.yaml", 3), {}, f"{part}: 1") for part in ("a", "b"))
    text = shown(found("VLC404", "frozen-part", Severity.NOTE, *notes))

    assert ("\nnote VLC404 frozen-part (line 3) (2 findings): a is idle; likewise: b; fix: a: 1; or b: 1\n") in text


def test_dump_of_a_module_is_its_name():
    """A library's message with a module in it is its first sentence; the JSON report keeps every line."""
    dump = (
        "Target module Tower(\n  (a): Clip(\n    (linear): Linear()\n  )\n) is not supported. Currently, only `x` is."
    )
    report = Report(SPEC, (found("VLC102", "refused", Severity.ERROR, said(f"PEFT refuses: {dump}")),))

    assert "\n  PEFT refuses: Target module Tower(...) is not supported.\n\n" in render(report)
    assert "(linear): Linear()" in RENDERERS["json"](report)


@pytest.mark.parametrize("form", RENDERERS)
@pytest.mark.parametrize("severity", Severity)
@pytest.mark.parametrize("verdict", Verdict)
def test_every_renderer_accepts_every_verdict(form, severity, verdict):
    """Even an outcome that says nothing at all is shown by its code."""
    assert "VLC777" in RENDERERS[form](Report(SPEC, (Outcome(built("VLC777", "x", severity), verdict),)))
