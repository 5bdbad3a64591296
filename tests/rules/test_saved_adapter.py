"""Adapters as real PEFT saves them pass after a look; each planted fault brings up exactly its codes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import vlcheck
import vlcheck.rules
from tests import tiny
from tests.rules.test_rules import emptied
from tests.saved_adapters import FAULTS, HEAD, SOUND, judge, save, spec_of
from vlcheck.finding import Report, Verdict
from vlcheck.model import bounded_regex
from vlcheck.model.build import Weights, build_model
from vlcheck.rules import ADAPTER_RULES
from vlcheck.rules.choosing import choose

MODELS = {
    "gemma4": tiny.gemma4(),
    "gemma4-audio": tiny.gemma4(audio=True),
    "gemma4-experts": tiny.gemma4(experts=True),
    "gemma3": tiny.gemma3(),
}
PLANTED = [
    pytest.param(model, fault, marks=() if turn or not FAULTS[fault].where(MODELS[other]) else pytest.mark.slow)
    for number, fault in enumerate(FAULTS)
    for model, other, turn in (("gemma4", "gemma3", number % 2), ("gemma3", "gemma4", not number % 2))
    if FAULTS[fault].where(MODELS[model])
]
"""Each fault in one of two models in turn, where both can have it; in both at `-m slow`."""
WRONG = {code: name for name, fault in reversed(FAULTS.items()) for code in fault.codes.split()}
RIGHT = {"VLC706": "with a full copy", "VLC707": "with a full copy", "VLC713": "of this base"}


@pytest.fixture(autouse=True)
def one_second_for_a_regex(monkeypatch):
    """A regex that never ends is given less time than a user's."""
    monkeypatch.setattr(bounded_regex, "SECONDS", 1.0)


def found(report: Report) -> set[str]:
    """Codes with findings, where no rule failed to run."""
    assert not report.with_verdict(Verdict.ERROR), [o.reason for o in report.with_verdict(Verdict.ERROR)]
    assert not report.with_verdict(Verdict.SKIPPED)
    return {outcome.rule.code for outcome in report.found()}


@pytest.mark.parametrize(("model", "tensors", "wrappers"), [
    ("gemma4", 60, 14), ("gemma4-audio", 110, 34), ("gemma4-experts", 64, 14), ("gemma3", 52, None),
])  # fmt: skip
def test_adapter_as_saved_is_passed_after_a_look(model, tensors, wrappers, tmp_path):
    """Nothing is found, and every tensor of the file was looked at by each rule that judges tensors."""
    report = judge(save(MODELS[model], tmp_path / "adapter"))

    assert found(report) == set()
    looks = {o.rule.code: sum(e.count for e in o.examined) for o in report.with_verdict(Verdict.PASSED)}
    reached = 30 if model == "gemma4-audio" else tensors // 2  # no sample of the run holds sound
    assert looks == {
        **dict.fromkeys(("VLC701", "VLC702", "VLC704", "VLC705", "VLC712", "VLC722", "VLC724", "VLC725"), tensors),
        **({"VLC703": wrappers} if wrappers else {}),
        **{"VLC710": 1, "VLC711": 13, "VLC714": 1, "VLC715": tensors // 2, "VLC721": 1, "VLC723": reached},
    }  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("model", ["gemma4", "gemma3"])
def test_sound_variant_is_silent(model, name, tmp_path):
    """Copies, casts, paths in place of names: what is no fault is not reported."""
    if SOUND[name].where(MODELS[model]):
        assert found(SOUND[name].report(MODELS[model], tmp_path / "adapter")) == set()


@pytest.mark.parametrize(("model", "name"), PLANTED)
def test_fault_brings_up_its_codes(model, name, tmp_path):
    """Exactly these codes, each finding at a file of the folder."""
    report = FAULTS[name].report(MODELS[model], tmp_path / "adapter")

    assert found(report) == set(FAULTS[name].codes.split())
    for outcome in report.found():
        for finding in outcome.findings:
            assert finding.where.file.startswith(str(tmp_path / "adapter" / "adapter_"))
            assert finding.where.line == 1


# --------------------------------------------------------------------------- each rule alone


@pytest.mark.parametrize("code", [rule.code for rule in ADAPTER_RULES])
def test_emptied_rule_neither_finds_nor_passes(code, tmp_path, monkeypatch):
    """Each rule has a fault that it finds and a sound adapter that it passes; without its body it does neither."""

    def verdicts(folder):
        broken, sound = FAULTS[WRONG[code]], SOUND[RIGHT.get(code, "as saved")]
        reports = (fault.report(MODELS["gemma4"], folder / name, select=(code,))
                   for name, fault in (("broken", broken), ("sound", sound)))  # fmt: skip
        return [report.outcomes[0].verdict for report in reports]

    assert verdicts(tmp_path / "whole") == [Verdict.FOUND, Verdict.PASSED]
    rules = tuple(emptied(rule) if rule.code == code else rule for rule in ADAPTER_RULES)
    monkeypatch.setattr(vlcheck.rules, "ADAPTER_RULES", rules)
    assert verdicts(tmp_path / "emptied") == [Verdict.ERROR, Verdict.ERROR]


@pytest.mark.parametrize(("name", "cause"), [
    ("unwrapped", "VLC703"), ("wrapped, model patched", "VLC703"), ("prefix twice", "VLC704"), ("no tensors", "VLC721"),
    ("rank of the config", "VLC711"), ("empty tensors", "VLC722"), ("adapted projector saved in full", "VLC711"),
])  # fmt: skip
def test_consequences_are_explained(name, cause, tmp_path):
    """Where one rule knows the cause, what follows from it is not reported as a fault of its own."""
    report = FAULTS[name].report(MODELS["gemma4"], tmp_path / "adapter")

    assert {o.rule.code: o.explained_by for o in report.found()} == {
        code: () if code == cause else (cause,) for code in FAULTS[name].codes.split()
    }


# --------------------------------------------------------------------------- what is said


def message(report: Report, code: str) -> str:
    """The one finding of a rule."""
    (finding,) = next(o for o in report.found() if o.rule.code == code).findings
    return finding.message


@pytest.mark.parametrize(("name", "code", "said"), [
    ("vision tower missing", "VLC701", "vision tower: 30 of 30 expected tensors are not in the file; first: base"),
    ("unwrapped", "VLC701", "vision tower: 28 of 30 expected tensors are not in the file"),
    ("unwrapped", "VLC702", "vision tower: the model has no place for 28 of 30 tensors"),
    ("unwrapped", "VLC703", "28 tensors were saved from a model without clip wrappers, and this one has them: the "
     "file's base_model.model.model.vision_tower.encoder.layers.0.mlp.down_proj.lora_A.weight is base_model.model."
     "model.vision_tower.encoder.layers.0.mlp.down_proj.linear.lora_A.weight here"),
    ("wrapped, model patched", "VLC703", "28 tensors were saved from a model with clip wrappers, and this one has"),
    ("prefix twice", "VLC704", "60 of 60 tensors would fit after one renaming: base_model.model. -> (nothing)"),
    ("prefix of another class", "VLC704", "60 of 60 tensors would fit after one renaming: base_model.model.module."
     "transformer. -> base_model.model."),
    ("rank of the config", "VLC711", "r is 8 in adapter_config.json, and 4 in the run's config"),
    ("targets", "VLC711", "target_modules of adapter_config.json match 4 modules of this model, those of the run 30"),
    ("targets by a stranger's regex", "VLC711", "target_modules of adapter_config.json are another regex than the run"),
    ("rank of adapter_config", "VLC712", "60 of 60 tensors do not have the rank of adapter_config.json"),
    ("rank pattern", "VLC712", "32 of 60 tensors do not have the rank of adapter_config.json"),
    ("base", "VLC713", "the adapter was trained on google/gemma-4-31B, the run's model is"),
    ("shards", "VLC714", "the tensors are in 2 files that an index names"),
    ("empty tensors", "VLC722", "28 of 60 tensors hold no values"),
    ("tower at its start", "VLC723", "vision tower: all of 15 adapters add nothing, a factor is all zero"),
    ("minus zero", "VLC723", "language model: 1 of 14 adapters add nothing"),
    ("nan", "VLC724", "1 of 60 tensors hold NaN or infinity"),
    ("infinity", "VLC724", "3 of 60 tensors hold NaN or infinity"),
    ("mixed types", "VLC725", "the adapter is stored as BF16 (28), F32 (32); usual is one of F32, BF16, F16"),
])  # fmt: skip
def test_findings_say_what_was_counted(name, code, said, tmp_path):
    """Parts, counts on both sides, and the first name."""
    assert message(FAULTS[name].report(MODELS["gemma4"], tmp_path / "adapter"), code).startswith(said)


OLD_NAMES = {
    "gemma3": {"model.language_model.": "language_model.model.", "model.vision_tower.": "vision_tower.vision_model.",
               "model.multi_modal_projector.": "multi_modal_projector."},
    "gemma4": {"model.language_model.": "language_model.model.", "model.vision_tower.": "vision_tower.",
               "model.embed_vision.": "embed_vision."},
}  # fmt: skip


@pytest.mark.parametrize(("model", "codes"), [("gemma3", set()), ("gemma4", {"VLC701", "VLC702", "VLC704"})])
def test_what_peft_renames_by_itself_is_no_fault(model, codes, tmp_path):
    """Gemma 3 was renamed between versions and PEFT knows it; of Gemma 4 there is no such renaming."""
    saved = save(MODELS[model], tmp_path / "adapter")
    for new, old in OLD_NAMES[model].items():
        saved.rename(lambda key, new=new, old=old: key.replace(HEAD + new, HEAD + old))
    report = judge(saved)

    assert found(report) == codes
    if codes:
        assert "60 of 60 tensors would fit after 3 renamings" in message(report, "VLC704")


def test_live_model_is_judged(tmp_path):
    """A model that the caller holds takes the place of the one that would be built."""
    saved = save(MODELS["gemma3"], tmp_path / "adapter")
    spec = spec_of(MODELS["gemma3"])
    small = build_model(replace(spec, lora=replace(spec.lora, r=2)), Weights.RANDOM, config=MODELS["gemma3"])
    before = {name: parameter.clone() for name, parameter in small.named_parameters()}

    assert found(vlcheck.check_adapter(spec, saved.folder, model=small, offline=True)) == {"VLC705"}
    assert all(torch.equal(before[name], parameter) for name, parameter in small.named_parameters())
    base = vlcheck.check_adapter(spec, saved.folder, model=small.get_base_model(), offline=True, select=("VLC701",))
    assert base.outcomes[0].verdict is Verdict.SKIPPED


def test_rules_belong_to_their_command():
    """A code of the other command is named as such."""
    with pytest.raises(ValueError, match="VLC701 belongs to `vlcheck check-adapter`"):
        choose(("VLC701",))
    with pytest.raises(ValueError, match="clip-around belongs to `vlcheck audit`"):
        choose(("clip-around",), saved=True)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ([r"layers\.[0-9]+\.self_attn\.q_proj"], "a regex in a list"),
        (
            ["language_model.model.layers.0.self_attn.q_proj"],
            "`language_model.model.` is called `model.language_model.",
        ),
        (r".*language_model.model.layers.[\d]+.(mlp|self_attn).q_proj", "is called `model.language_model.`"),
    ],
)
def test_own_targets_that_match_nothing_are_explained(written, said, tmp_path):
    """A regex in a list and a path of another version are named as such; a stranger's regex is not run for it."""
    saved = save(MODELS["gemma3"], tmp_path / "adapter")
    saved.configure(target_modules=written)
    assert said in message(judge(saved, select=("VLC715",)), "VLC715")
