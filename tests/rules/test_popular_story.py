"""What each choice of targets does to LoRA and the clip wrapper, on real tiny Gemma 4 models.

Two vision layers (14 wrappers) and two text layers (14 linears), with clipping on and off. The wide
majority of published advice on this is wrong; these rows are what PEFT and transformers really do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from tests import tiny
from tests.broken import patches
from tests.samples import SOUND, run, targets, unclipped
from vlcheck import engine
from vlcheck.evidence.resolve import Evidence
from vlcheck.finding import Verdict
from vlcheck.model.clip_behaviour import LIMIT, PowerlessProbe, behave
from vlcheck.model.family import Part
from vlcheck.model.modules import Placement
from vlcheck.rules import RULES
from vlcheck.spec import Intent

SEVEN = ("q", "k", "v", "o", "gate", "up", "down")
QV_REGEX = r"model\.language_model\..*\.(q|v)_proj|model\.vision_tower\..*\.(q|v)_proj\.linear"


@dataclass(frozen=True)
class Row:
    """One choice of targets and what comes of it."""

    name: str
    lora: Any
    patch: str | None = None
    refused_by: str | None = None  # code
    adapted: tuple[int, int, int] = (0, 0, 0)  # vision, projector, language
    placement: Placement | None = None  # of the wrappers that clip


ROWS = (
    Row("PEFT's default", targets(None), adapted=(0, 0, 4)),
    Row("name list", targets(("q_proj", "v_proj")), refused_by="VLC101"),
    Row("name list, tower excluded by name", targets(("q_proj", "v_proj"), exclude_modules=("vision_tower",)),
        refused_by="VLC101"),
    Row("name list, tower excluded by regex", targets(("q_proj", "v_proj"), exclude_modules=r".*vision_tower.*"),
        adapted=(0, 0, 4)),
    Row("names and inner names mixed", targets(("q_proj", "q_proj.linear")), refused_by="VLC101"),
    Row("regex on the names", targets(r".*(q_proj|v_proj)"), refused_by="VLC101"),
    Row("list of inner names", targets(tuple(f"{p}_proj.linear" for p in SEVEN)), adapted=(14, 0, 0),
        placement=Placement.INSIDE),
    Row("the inner name alone", targets(("linear",)), adapted=(14, 0, 0), placement=Placement.INSIDE),
    Row("all-linear", targets("all-linear"), adapted=(15, 1, 14), placement=Placement.INSIDE),
    Row("regex for both towers", targets(QV_REGEX), adapted=(4, 0, 4), placement=Placement.INSIDE),
    Row("wrapper replaced, name list", targets(("q_proj", "v_proj")), patch="tests.broken.patches:replaced",
        adapted=(4, 0, 4), placement=Placement.REPLACED),
    Row("wrapper replaced, all-linear", targets("all-linear"), patch="tests.broken.patches:replaced",
        adapted=(15, 1, 14), placement=Placement.REPLACED),
    Row("wrapper made a linear subclass", targets(("q_proj", "v_proj")), patch="tests.broken.patches:around",
        adapted=(4, 0, 4), placement=Placement.AROUND),
    Row("wrapper registered as plain LoRA", targets(("q_proj", "v_proj")), patch="tests.broken.patches:registered",
        refused_by="VLC102"),
    Row("parent of wrappers", targets(("encoder",)), refused_by="VLC102"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("row", "clip"),
    [
        pytest.param(row, clip, id=f"{row.name}-clip {'on' if clip else 'off'}",
                     marks=[] if clip or row.name in ("name list", "all-linear") else pytest.mark.slow)
        for row in ROWS
        for clip in (True, False)
    ],
)  # fmt: skip
def test_targets_do_what_the_row_says(row, clip, tmp_path):
    """Refusal, census and containment of one choice; without clipping, containment does not apply.

    Without clipping a refused row and an accepted one are looked at by default, the others at `-m slow`.
    """
    this = run(tiny.gemma4 if clip else unclipped, lora=row.lora, patch=row.patch, intent=Intent())
    with patches.undone():
        evidence = Evidence(this.spec(tmp_path), this.known(), allow_code=True, offline=True)
        outcomes = {rule.code: engine.run(rule, evidence) for rule in RULES}

    found = {code for code, outcome in outcomes.items() if outcome.verdict is Verdict.FOUND}
    assert not [o.reason for o in outcomes.values() if o.verdict is Verdict.ERROR]
    assert found & {"VLC101", "VLC102"} == ({row.refused_by} if row.refused_by else set())
    assert ("VLC106" in found) is not clip
    if row.refused_by:
        assert outcomes["VLC401"].verdict is Verdict.SKIPPED
        return

    table = evidence.call(lambda modules: modules)
    assert tuple(len(table.adapters(part)) for part in (Part.VISION, Part.PROJECTOR, Part.LANGUAGE)) == row.adapted
    candidate = [outcomes[code] for code in ("VLC103", "VLC104", "VLC111")]
    if clip:
        harm = {Placement.AROUND: {"VLC103", "VLC105"}, Placement.REPLACED: {"VLC104"}}
        assert found & {"VLC103", "VLC104", "VLC105", "VLC111"} == harm.get(row.placement, set())
        assert {seen.count for outcome in candidate for seen in outcome.examined} == {tiny.VISION_WRAPPERS}
        containment = evidence.call(lambda containment: containment)
        assert {w.placement for w in containment.wrappers if w.adapted} == ({row.placement} - {None})
    else:
        assert {outcome.verdict for outcome in candidate} == {Verdict.NOT_APPLICABLE}


def test_advised_regex_is_accepted_and_inside(tmp_path):
    """The regex that VLC101 prints makes PEFT accept the run, with LoRA between the clamps."""
    refused = run(lora=targets(("q_proj", "v_proj")), intent=Intent())
    (finding,) = refused.audit(tmp_path / "refused", select=("VLC101",)).outcomes[0].findings
    regex = finding.fix.removeprefix("target_modules: '").removesuffix("'")

    report = run(lora=targets(regex), intent=Intent()).audit(tmp_path / "fixed")

    assert finding.measured["modules adapted by the fix"] == 8
    assert {o.rule.code for o in report.found()} == {"VLC404"}  # the projector has no q or v
    (around,) = [o for o in report.outcomes if o.rule.code == "VLC103"]
    assert (around.examined[0].count, around.examined[0].what) == (14, "clip wrappers")


def test_control_with_the_delta_outside_leaves_the_bounds(tmp_path):
    """A clip verdict counts because the same call with the delta moved outside the clamps fails."""
    with patches.undone():
        evidence = Evidence(SOUND.spec(tmp_path), {}, offline=True)
        containment = evidence.call(lambda containment: containment)

    assert len(containment.measured()) == tiny.VISION_WRAPPERS
    assert all(w.behaviour.largest <= LIMIT * 1.001 for w in containment.measured())
    assert all(w.behaviour.control > 100 * LIMIT for w in containment.measured())


def test_verdict_without_power_is_refused(tmp_path):
    """Where even the control stays within the bounds, no verdict is given."""
    model = patches.WRAPPER(type("Config", (), {"use_clipped_linears": True}), 4, 4)
    torch.nn.init.zeros_(model.linear.weight)

    with pytest.raises(PowerlessProbe, match="stayed at 0"):
        behave(model, 4)
