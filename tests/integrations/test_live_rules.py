"""Every rule of a running job catches its broken run, is silent on the sound one, and says how much it looked at."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

import vlcheck.rules
from tests.integrations import live_samples as live
from tests.integrations import test_planted_faults as planted
from tests.rules.test_rules import emptied
from vlcheck import check_run
from vlcheck.engine import report_on
from vlcheck.evidence.live import LIVE
from vlcheck.evidence.resolve import Evidence
from vlcheck.finding import Outcome, Verdict
from vlcheck.gpus import gpu
from vlcheck.memory.project import project_memory
from vlcheck.rules import LIVE_RULES, choose, choose_live

CODES = [rule.code for rule in LIVE_RULES]


def foreign_group(parts: live.Parts) -> None:
    """The optimizer steps another model beside this one."""
    parts.built()
    parts.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))]})


def ids_beyond(parts: live.Parts) -> None:
    """A collator whose tokenizer knows more ids than the model has."""
    inner = parts.collator

    def collate(rows):
        batch = dict(inner(rows))
        return batch | {"input_ids": batch["input_ids"].masked_fill(batch["input_ids"] == 5, 10**6)}

    parts.collator = collate


def zeroed(parts: live.Parts) -> None:
    """A backward pass whose loss does not depend on the tower."""
    backward(parts)
    for name, parameter in parts.model.named_parameters():
        if "vision_tower" in name and parameter.grad is not None:
            parameter.grad.zero_()


def backward(parts: live.Parts) -> None:
    """Every trained tensor has a gradient."""
    for parameter in parts.model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)


BROKEN = {
    "VLC001": planted.attached_twice,
    "VLC002": planted.frozen_after,
    "VLC003": planted.early_optimizer,
    "VLC004": foreign_group,
    "VLC005": planted.other_tokenizer,
    "VLC006": planted.images_dropped,
    "VLC007": planted.not_training,
    "VLC008": ids_beyond,
    "VLC009": zeroed,
    "VLC010": live.nothing,
    "VLC011": planted.other_pixels,
}
SOUND = {"VLC009": backward}
EXAMINED = {
    "VLC001": ((9, "adapted modules"),),
    "VLC002": ((18, "tensors of active adapters"),),
    "VLC003": ((18, "parameters that require gradients"), (18, "parameters in the optimizer's groups")),
    "VLC004": ((18, "parameters in the optimizer's groups"),),
    "VLC005": ((59, "labels"),),
    "VLC006": ((1, "batches"), (4, "rows")),
    "VLC007": ((9, "dropout layers"),),
    "VLC008": ((1, "batch run through the live model, up to its head"),),
    "VLC009": ((9, "trained modules"),),
    "VLC010": ((1_000_000, "bytes allocated at the worst moment of the first step"),),
    "VLC011": ((6, "images of both splits"),),
}


@cache
def at_peak(peak_bytes: int) -> Evidence:
    """The sound run behind its first step on a card."""
    found = live.evidence()
    run = replace(found.get("live_run"), peak_bytes=peak_bytes)
    plan = project_memory(found.get("spec"), live.config(), found.get("family"), gpu("l4"))
    given = {"model": run.model, "live_run": run, "memory_plan": plan}
    return Evidence(found.get("spec"), given, collectors=LIVE)


def outcome_of(code: str, broken: bool) -> Outcome:
    """The rule alone, on its broken run or on the sound one."""
    if code == "VLC010":
        found = at_peak(10**12 if broken else 10**6)
        (outcome,) = report_on(found.get("spec"), choose_live((code,)), found).outcomes
        return outcome
    (outcome,) = live.judged((BROKEN if broken else SOUND).get(code, live.nothing), code).outcomes
    return outcome


@pytest.mark.parametrize("code", CODES)
def test_broken_is_caught_and_sound_is_passed_after_a_look(code, monkeypatch):
    """With its body replaced by `return []`, a rule does neither."""
    caught, passed = (outcome_of(code, broken) for broken in (True, False))
    assert (caught.verdict, passed.verdict) == (Verdict.FOUND, Verdict.PASSED), (caught.reason, passed.findings)
    assert tuple((seen.count, seen.what) for seen in passed.examined) == EXAMINED[code]

    rules = tuple(emptied(rule) if rule.code == code else rule for rule in LIVE_RULES)
    monkeypatch.setattr(vlcheck.rules, "LIVE_RULES", rules)
    assert [outcome_of(code, broken).verdict for broken in (True, False)] == [Verdict.ERROR] * 2


def test_rules_belong_to_doors():
    """A code of another door is refused with that door's name."""
    with pytest.raises(ValueError, match=r"VLC003 belongs to `vlcheck.check_run`"):
        choose(("VLC003",))
    with pytest.raises(ValueError, match="VLC701 belongs to `vlcheck check-adapter`"):
        choose_live(("VLC701",))
    with pytest.raises(ValueError, match="VLC501 belongs to `vlcheck audit`"):
        choose_live(("VLC501",))
    assert not any(rule.code.startswith(("VLC1", "VLC4")) for rule in choose_live(adapted=False))


def test_what_cannot_be_judged_is_refused_in_a_line():
    """Neither trainer nor model; a generator, which reading would use up; a batch of no known kind."""
    model = live.sound().model
    with pytest.raises(TypeError, match="check_run takes a trainer, or model="):
        check_run()
    with pytest.raises(TypeError, match=r"batches is generator; allowed: a DataLoader, or a list of batches"):
        check_run(model=model, batches=(each for each in [1]))
    with pytest.raises(TypeError, match=r"batches\[0\] is int; allowed: a mapping of tensors"):
        check_run(model=model, batches=[3])
    assert check_run(model=torch.nn.Linear(2, 2)).exit_code(strict=True) == 2


def test_batches_without_rows_are_judged_by_their_ids(monkeypatch):
    """The conversation is read back from the row; the loader is asked for its data set and never iterated."""
    parts = live.sound().built()
    bare = [parts.collator(parts.rows[:2])]
    everything = [{**bare[0], "labels": bare[0]["input_ids"]}]
    options = {"model": parts.model, "processor": parts.processor, "select": ("VLC2",)}

    sound, broken = (check_run(batches=batches, **options) for batches in (bare, everything))

    assert not sound.found()
    assert {"VLC206", "VLC207"} <= {o.rule.code for o in sound.with_verdict(Verdict.PASSED)}
    assert "VLC207" in {o.rule.code for o in broken.found()}
    loader = torch.utils.data.DataLoader(parts.rows, batch_size=2, collate_fn=parts.collator)
    monkeypatch.setattr(type(loader), "__iter__", None)
    assert not check_run(batches=loader, **options).found()


def test_full_fine_tuning_is_held_to_rules_without_adapters():
    """No rule of adapters is asked, and dropped labels are found all the same."""
    parts = live.sound()
    parts = replace(parts, model=live.base().train(), collator=lambda rows: {**live_batch(parts, rows)})

    parts.built()
    report = check_run(model=parts.model, collator=parts.collator, processor=parts.processor, batches=[parts.rows[:2]])

    assert {o.rule.code for o in report.found()} == {"VLC206", "VLC208", "VLC211"}
    assert not any(o.rule.code.startswith("VLC4") for o in report.outcomes)


def live_batch(parts: live.Parts, rows: list[Any]) -> dict[str, Any]:
    from tests.broken import collators

    return collators.nothing(dict(collators.sound(parts.processor)(rows)))
