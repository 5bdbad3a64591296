"""A sound run of every catalogue model passes, and the rules that matter have looked."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from transformers.initialization import no_init_weights

from tests.model.families.models import IDS, PARTS_ONLY, SMALLEST, entry, family, labels, reference, sound, table
from tests.tiny import no_projection
from vlcheck.engine import run
from vlcheck.evidence.model import Skeleton
from vlcheck.evidence.resolve import Evidence
from vlcheck.finding import Severity, Verdict
from vlcheck.model.build import Weights, base_of, build_model, transformers_config
from vlcheck.rules import RULES
from vlcheck.spec import RunSpec

LOOKED = ("VLC401", "VLC404", "VLC406")
OTHER_SIZES = [hub_id for hub_id in IDS if hub_id not in (*SMALLEST, *PARTS_ONLY)]
"""Looked at with `-m slow`: each has the structure of one of the smallest, which are looked at by default."""
IN_DROPPED_LAYER = 6
"""Adapters that `all-linear` puts on CLIP's last layer, whose output LLaVA drops."""


def no_labels(hub_id: str) -> dict[str, Any]:
    """Nothing is handed in: the model's own labels are judged."""
    return {}


BY_DEFAULT = [pytest.param(hub_id, marks=[] if number % 4 == 1 else pytest.mark.slow) for number, hub_id in
              enumerate(SMALLEST)]  # fmt: skip
"""Every fourth structure; `test_faults.py` has the miniatures of all."""


@pytest.mark.parametrize("hub_id", BY_DEFAULT)
@pytest.mark.parametrize("given", [labels, pytest.param(no_labels, marks=pytest.mark.slow)])
def test_sound_run_of_every_structure_is_silent_and_looked_at(hub_id, given):
    """`all-linear`: no error and no warning from any rule, census and gradient of every part.

    Labels are those of the miniature, which `test_faults.py` has judged too; with `-m slow` also those of pictures as
    large as the model takes them.
    """
    evidence = evidence_of(hub_id, sound(hub_id), **given(hub_id))
    outcomes = {rule.code: run(rule, evidence) for rule in RULES}

    assert [o.reason for o in outcomes.values() if o.verdict is Verdict.ERROR] == []
    assert [o.rule.code for o in outcomes.values() if o.findings and o.rule.severity is not Severity.NOTE] == []
    assert_looked(outcomes)
    clip = entry(hub_id).config["vision_config"].get("model_type") == "clip_vision_model"
    assert len(evidence.call(lambda reach: reach).dropped) == IN_DROPPED_LAYER * clip


@pytest.mark.slow
@pytest.mark.parametrize("hub_id", OTHER_SIZES)
def test_other_sizes_are_looked_at(hub_id):
    """Census and gradient, with adapters in the last layer of each kind: PEFT takes a second for all layers."""
    spec = sound(hub_id)
    lora = replace(spec.lora, target_modules=last_of_each_kind(hub_id), exclude_modules=None)
    evidence = evidence_of(hub_id, replace(spec, lora=lora))

    assert_looked({rule.code: run(rule, evidence) for rule in RULES if rule.code in LOOKED})


def evidence_of(hub_id: str, spec: RunSpec, **more: Any) -> Evidence:
    with no_init_weights():  # it has no storage anyway
        skeleton = Skeleton(base_of(build_model(spec, Weights.META, config=entry(hub_id).config)))
    given = {"reference": reference(hub_id), "skeleton": skeleton, "projection": no_projection, **more}
    return Evidence(spec, given, offline=True)


def assert_looked(outcomes) -> None:
    """Neither skipped nor failed, and something was there to see."""
    for code in LOOKED:
        assert outcomes[code].verdict is Verdict.PASSED, outcomes[code]
        assert sum(seen.count for seen in outcomes[code].examined) > 0


def last_of_each_kind(hub_id: str) -> str:
    """A regex for the linear layers outside all layer lists, and of one layer of each kind."""
    kinds = family(hub_id).layer_kinds(transformers_config(entry(hub_id).config).to_dict())
    kept = {f"{path}.{len(of) - 1 - of[::-1].index(kind)}." for path, of in kinds.items() for kind in set(of)}
    return "|".join(
        re.escape(row.name)
        for row in table(hub_id).rows
        if row.kind == "Linear" and row.name != "lm_head"
        and (row.name.startswith(tuple(kept)) or not row.name.startswith(tuple(kinds)))
    )  # fmt: skip
