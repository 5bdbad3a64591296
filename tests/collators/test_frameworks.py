"""The collator that a run is judged by is that of the framework it names."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache

import pytest
import torch
from trl import chat_template_utils as templates

from tests import tiny
from tests.broken.table import own
from tests.label_samples import rows
from tests.model.families.models import entry
from vlcheck.collators.batch import Candidate
from vlcheck.collators.frameworks import collator_of
from vlcheck.collators.regions import map_tokens
from vlcheck.config.defaults import framework_of
from vlcheck.config.frameworks import AXOLOTL, FRAMEWORKS, LLAMA_FACTORY, MS_SWIFT, TRANSFORMERS, TRL, UNSLOTH
from vlcheck.engine import audit, check_collator
from vlcheck.finding import Severity, Unavailable, Verdict
from vlcheck.model.families import family_of
from vlcheck.processing.collator import Collator
from vlcheck.processing.fallback import build_fallback
from vlcheck.spec import Lora, ModelRef, RunSpec, Training

SMALL, CHATML = "google/gemma-4-E4B-it", "Qwen/Qwen2.5-VL-3B-Instruct"
BOTH = (pytest.param(SMALL, marks=pytest.mark.slow), CHATML)
"""One of them by default: a restatement asks the template for nothing that these two do not write alike."""


def judged(framework, hub_id, *, answers="all", **training):
    """Codes that the framework's collator gets on a family, and what it is called."""
    values = entry(hub_id).config
    family = family_of(values)
    collator = Collator(build_fallback(family, values), family.dialogue, answers=answers)
    spec = RunSpec(model=ModelRef(id=hub_id), lora=Lora(), training=Training(**training))
    candidate = collator_of(framework, spec, collator)
    report = check_collator(candidate, collator.processor, rows(), model=hub_id, answers=answers)
    assert not report.with_verdict(Verdict.ERROR)
    return {outcome.rule.code for outcome in report.found()}, candidate.origin


@cache
def judged_trl(hub_id):
    """The verdict on TRL's own collator, for the tests that look at it."""
    return judged(TRL, hub_id)


@pytest.mark.parametrize("hub_id", BOTH)
def test_trl_supervises_everything(hub_id):
    """TRL's own collator is asked, and masks nothing."""
    codes, origin = judged_trl(hub_id)

    assert codes >= {"VLC202", "VLC205", "VLC207"}
    assert origin.startswith("trl 1.16.")
    assert origin.endswith("'s own collator")


@pytest.mark.slow
@pytest.mark.parametrize("hub_id", [SMALL, CHATML])
def test_trl_supervises_the_completion_where_it_is_told_to(hub_id, monkeypatch):
    """Rows of prompt and completion: the answer alone is learnt, by the real one and by its restatement."""
    told = {"answers": "last", "completion_only_loss": True}
    codes, origin = judged(TRL, hub_id, **told)
    monkeypatch.setitem(sys.modules, "trl.trainer.sft_trainer", None)

    assert codes <= {"VLC209"}
    assert origin.endswith("'s own collator")
    assert judged(TRL, hub_id, **told)[0] <= codes


@pytest.mark.slow
def test_trl_without_a_training_template_is_not_judged():
    """`assistant_only_loss` needs a template that marks the answers, or one that TRL has a marked twin of."""
    with pytest.raises(Unavailable, match="assistant_only_loss: trl refuses the template"):
        judged(TRL, CHATML, assistant_only_loss=True)


@pytest.mark.parametrize("hub_id", BOTH)
def test_restatement_of_trl_gets_its_verdict(hub_id, monkeypatch):
    """Where TRL is not installed, the restatement has the same faults as the real one, and says what it is."""
    real, _ = judged_trl(hub_id)
    monkeypatch.setitem(sys.modules, "trl.trainer.sft_trainer", None)
    codes, origin = judged(TRL, hub_id)

    assert codes & {"VLC202", "VLC205", "VLC207"} == real & {"VLC202", "VLC205", "VLC207"}
    assert origin == "trl 1.16's labels, restated from trl/trainer/sft_trainer.py:412"


@pytest.mark.parametrize("hub_id", BOTH)
@pytest.mark.parametrize("framework", [AXOLOTL, LLAMA_FACTORY, MS_SWIFT], ids=lambda row: row.name)
def test_answers_alone(framework, hub_id):
    """Frameworks that mask the prompt have no finding, and are restated under their own name."""
    codes, origin = judged(framework, hub_id)

    assert codes == set()
    assert origin.startswith(f"{framework.title}'s labels, restated from ")


@pytest.mark.parametrize("hub_id", BOTH)
def test_unsloth_hides_images_and_nothing_else(hub_id):
    """Its prompt is supervised; no image id is."""
    codes, _ = judged(UNSLOTH, hub_id)

    assert "VLC202" in codes
    assert "VLC205" not in codes


@pytest.mark.parametrize(("framework", "trained"), [
    (TRL, lambda real, image, answers: real),
    (UNSLOTH, lambda real, image, answers: real & ~image),
    (AXOLOTL, lambda real, image, answers: answers),
], ids=lambda row: getattr(row, "name", ""))  # fmt: skip
def test_what_a_framework_trains_is_the_same_in_both_families(framework, trained):
    """Which ids, by what they are: so that one of the two may be judged less often."""
    for hub_id in (SMALL, CHATML):
        collator = own(hub_id)
        batch = collator_of(framework, RunSpec(model=ModelRef(id=hub_id), lora=Lora()), collator).batch(rows())
        ids, image = batch["input_ids"], map_tokens(collator.template).image_ids
        answers = collator(rows())["labels"] != -100
        images = torch.isin(ids, torch.tensor(sorted(image)))

        expected = trained(batch["attention_mask"].bool(), images, answers)
        assert torch.equal(batch["labels"] != -100, expected)
        assert images.any()


def test_transformers_has_no_collator_for_images():
    """Then the labels are the script's, and no rule of labels is passed."""
    with pytest.raises(Unavailable, match="its labels are those of your script"):
        judged(TRANSFORMERS, SMALL)


@pytest.mark.parametrize("name", [*dict.fromkeys(row.name for row in FRAMEWORKS), "other", "vlcheck"])
def test_audit_judges_the_named_framework(name, tmp_path):
    """The finding points at the framework's name; a collator that is not known skips the rules."""
    path = tiny.write_folder(tmp_path / "model", tiny.gemma4(), tiny.FINITE)
    training = Training(framework=name, gradient_checkpointing=True)
    spec = RunSpec(
        model=ModelRef(id=str(path), dtype="float32"), lora=Lora(target_modules="all-linear"), training=training
    )
    report = audit(spec, offline=True, select=("VLC207", "VLC202"))
    outcomes = {outcome.rule.code: outcome for outcome in report.outcomes}
    everything, prompt = outcomes["VLC207"], outcomes["VLC202"]
    if name in ("transformers", "other"):
        assert everything.verdict is prompt.verdict is Verdict.SKIPPED
    else:
        assert (everything.verdict is Verdict.FOUND) == (name == "trl")
        assert (prompt.verdict is Verdict.FOUND) == (name in ("trl", "unsloth"))
    for outcome in report.found():
        assert outcome.findings[0].where.key == "training.framework"
        assert outcome.severity is Severity.WARNING
    if report.found():  # said once, by the cause
        cause = everything if name == "trl" else prompt
        row = framework_of(spec)
        assert f"{row.title} does so unless it is told otherwise ({row.supervises.source})" in cause.findings[0].message
        assert cause.findings[0].fix == row.answers_alone.value
        assert name != "trl" or prompt.explained_by == ("VLC207",)
        assert name != "trl" or "does so unless" not in prompt.findings[0].message


def test_the_same_labels_are_an_error_in_code_of_the_users():
    """Whose choice it is decides, not what is supervised."""
    collator = own(CHATML)
    candidate = collator_of(TRL, RunSpec(model=ModelRef(id=CHATML), lora=Lora()), collator)
    users = Candidate(candidate.call, "your collator")
    report = check_collator(users, collator.processor, rows(), model=CHATML, select=("VLC207",))

    assert [(o.rule.code, o.severity) for o in report.found()] == [("VLC207", Severity.ERROR)]
    assert candidate.default is TRL


TWINS = {
    "google/gemma-3-4b-it": "gemma3",
    "Qwen/Qwen2.5-VL-3B-Instruct": "qwen2_5_vl",
    "Qwen/Qwen3-VL-8B-Instruct": "qwen3_vl",
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct": "smolvlm",
    "HuggingFaceM4/Idefics3-8B-Llama3": "idefics3",
    "llava-hf/llava-v1.6-mistral-7b-hf": "llava_next",
}
"""Models whose own chat template TRL has a twin of, as VLC207 names them, and what TRL calls it."""


@pytest.mark.slow
@pytest.mark.parametrize("hub_id", TWINS)
@pytest.mark.parametrize("told", ["assistant_only_loss", "completion_only_loss"])
def test_what_vlc207_advises_supervises_the_answers_alone(hub_id, told):
    """Both settings of TRL, over the template that TRL knows."""
    values = entry(hub_id).config
    family = family_of(values)
    processor = build_fallback(family, values)
    processor.chat_template = processor.tokenizer.chat_template = getattr(templates, f"{TWINS[hub_id]}_chat_template")
    answers = "last" if told == "completion_only_loss" else "all"
    spec = RunSpec(model=ModelRef(id=hub_id), lora=Lora(), training=Training(**{told: True}))
    candidate = collator_of(TRL, spec, Collator(processor, family.dialogue, answers=answers))
    report = check_collator(candidate, processor, rows(), model=hub_id, answers=answers)

    assert not report.with_verdict(Verdict.ERROR)
    assert {o.rule.code for o in report.found()} & {"VLC202", "VLC205", "VLC206", "VLC207", "VLC208"} == set()


def test_a_limit_of_the_framework_is_a_limit_of_the_rows(tmp_path):
    """A row that is longer than the framework's limit is a finding, whoever set the limit."""
    path = tiny.write_folder(tmp_path / "model", tiny.gemma4(), tiny.FINITE)
    spec = RunSpec(
        model=ModelRef(id=str(path), dtype="float32"),
        lora=Lora(target_modules="all-linear"),
        training=Training(framework="llamafactory"),
    )
    short = replace(spec, data=replace(spec.data, max_length=250))

    assert [o.rule.code for o in audit(short, offline=True, select=("VLC203",)).found()] == ["VLC203"]
    assert audit(spec, offline=True, select=("VLC203",)).found() == ()
