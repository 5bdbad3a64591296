"""The engine: outcomes of every kind, live objects in place of collected evidence, remarks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

import vlcheck
import vlcheck.rules
from tests import tiny
from tests.broken import patches
from tests.samples import LANGUAGE, SOUND, run, targets
from tests.tiny import no_projection
from vlcheck import engine
from vlcheck.evidence.resolve import Evidence
from vlcheck.finding import Examined, Finding, NotApplicable, Severity, Unavailable, Verdict, Weight, rule
from vlcheck.model.base_weights import StoredBase
from vlcheck.model.build import build_base
from vlcheck.model.random_weights import materialise
from vlcheck.spec import ConfigError, Data, ModelRef
from vlcheck.versions import untested


def outcome(check, spec=None, **given):
    """Run one ad-hoc rule."""
    spec = spec or run().spec  # never called: these rules need no model
    return engine.run(rule("VLC999", "test", Severity.ERROR)(check), Evidence(spec, given))


def test_finding_makes_found():
    """A finding is what the rule is for."""

    def check(spec):
        yield Examined(3, "things")
        yield Finding("wrong", where=None)

    result = outcome(check)
    assert (result.verdict, len(result.findings), result.examined) == (Verdict.FOUND, 1, (Examined(3, "things"),))


def test_silence_without_a_look_is_no_pass():
    """A rule that neither found nor examined anything did not run."""
    result = outcome(lambda spec: [])
    assert (result.verdict, result.reason) == (Verdict.ERROR, "VLC999 said nothing of what it examined")


def test_rule_that_raises_is_an_error_with_its_traceback():
    """One bad rule does not end the audit."""

    def check(spec):
        raise ZeroDivisionError("oops")
        yield

    result = outcome(check)
    assert result.verdict is Verdict.ERROR
    assert "ZeroDivisionError: oops" in result.reason


def test_a_finding_may_weigh_less_where_its_rule_says_so():
    """The outcome is as bad as its worst finding; a severity that the rule does not declare is the rule's fault."""
    weighs = (Weight(Severity.NOTE, "it is meant"), Weight(Severity.WARNING, "it is a default"))

    def judged(*severities, weighs=weighs):
        check = rule("VLC999", "test", Severity.ERROR, weighs=weighs)(
            lambda spec: [Finding("wrong", where=None, severity=severity) for severity in severities]
        )
        return engine.run(check, Evidence(run().spec, {}))

    assert judged(Severity.NOTE, Severity.WARNING).severity is Severity.WARNING
    assert judged(Severity.NOTE, None).severity is Severity.ERROR
    assert [judged(Severity.NOTE).weight(finding) for finding in judged(Severity.NOTE).findings] == [Severity.NOTE]
    undeclared = judged(Severity.NOTE, weighs=())
    assert (undeclared.verdict, undeclared.reason) == (Verdict.ERROR, "VLC999 does not declare note")


def test_missing_evidence_skips_with_reason_and_remedy():
    """What cannot be collected is never a pass."""

    def check(spec):
        raise Unavailable("no weights", "download them")
        yield

    result = outcome(check)
    assert (result.verdict, result.reason, result.unlock) == (Verdict.SKIPPED, "no weights", "download them")


def test_nothing_to_judge_is_not_a_skip():
    """Known irrelevance does not fail --strict."""

    def check(spec):
        raise NotApplicable("no wrappers")
        yield

    result = outcome(check)
    assert (result.verdict, result.reason) == (Verdict.NOT_APPLICABLE, "no wrappers")


def test_failed_evidence_is_collected_once():
    """The second rule that needs failed evidence gets the same reason without a second attempt."""
    evidence = Evidence(None, {})
    evidence._failed["modules"] = Unavailable("PEFT refuses")

    def check(modules):
        yield Examined(1, "table")

    results = [engine.run(rule(code, "test", Severity.ERROR)(check), evidence) for code in ("VLC998", "VLC999")]
    assert [r.reason for r in results] == ["PEFT refuses"] * 2


def test_unknown_evidence_is_refused():
    """A misspelt keyword is an error that lists what exists."""
    with pytest.raises(TypeError, match="no evidence is called 'modle'; known: aimed, attention, "):
        vlcheck.audit(None, modle=1)


def test_codes_are_unique_and_explanations_exist():
    """The registry is sound: unique codes and names, three-part docstrings, consequences that exist."""
    rules = vlcheck.rules.RULES
    codes = [r.code for r in rules]
    assert len(set(codes)) == len({r.name for r in rules}) == len(rules)
    for r in rules:
        assert set(r.explains) <= {each.code for each in vlcheck.rules.every_rule()}
        title, *rest = r.doc.split("\n\n")
        assert title.endswith(".")
        assert "\n" not in title
        assert any(part.startswith("Remedy: ") for part in rest), r.code
        assert rest[-1].startswith("Source: "), r.code


def live(folder, patch=None, **lora):
    """A model as a training script holds it: real weights on the CPU, adapters attached."""
    base = build_base(tiny.gemma4(), dtype="float32")
    materialise(base, "cpu", seed=0)
    if patch:
        patch(base)
    with torch.no_grad():
        for name, buffer in base.named_buffers():
            if name.endswith(("_min", "_max")):
                buffer.fill_(-3.0 if name.endswith("_min") else 3.0)
    return get_peft_model(base, LoraConfig(**{"r": 4, "target_modules": "all-linear"} | lora))


def codes(report) -> set[str]:
    return {o.rule.code for o in report.found()}


def test_live_model_stands_in_for_the_skeleton(tmp_path):
    """The model at hand is judged, not the one that the config describes."""
    described = run(lora=targets(LANGUAGE)).spec(tmp_path)
    model = live(tmp_path)

    report = vlcheck.audit(described, offline=True, projection=no_projection, model=model)

    assert codes(report) == set()
    assert report.remarks[0].startswith("the model object that was handed in was judged")
    around = next(o for o in report.outcomes if o.rule.code == "VLC103")
    assert [seen.count for seen in around.examined] == [14, 14]


def test_live_model_is_left_as_it_was(tmp_path):
    """Probing works on copies: no parameter, buffer, gradient flag or random state changes."""
    model = live(tmp_path)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = [p.requires_grad for p in model.parameters()]
    state = torch.random.get_rng_state()

    vlcheck.audit(SOUND.spec(tmp_path), offline=True, projection=no_projection, model=model)

    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert flags == [p.requires_grad for p in model.parameters()]
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(state, torch.random.get_rng_state())


def test_live_model_that_lost_its_wrappers(tmp_path):
    """Unwrapping in a user's script is found in the model itself."""
    report = vlcheck.audit(
        SOUND.spec(tmp_path), offline=True, projection=no_projection, model=live(tmp_path, patches.replaced)
    )

    assert codes(report) == {"VLC104"}


def test_live_model_under_patched_classes(tmp_path):
    """The reference is transformers' own even where the process runs with patched classes."""
    with patches.undone():
        patches.around()
        report = vlcheck.audit(SOUND.spec(tmp_path), offline=True, projection=no_projection, model=live(tmp_path))

    assert codes(report) == {"VLC103", "VLC105"}


def test_live_model_with_frozen_adapters(tmp_path):
    """Adapters that a script froze after attaching them do not count as trained."""
    model = live(tmp_path)
    for name, parameter in model.named_parameters():
        if "vision_tower" in name:
            parameter.requires_grad_(False)

    report = vlcheck.audit(SOUND.spec(tmp_path), offline=True, projection=no_projection, model=model)

    assert codes(report) == {"VLC402"}


def test_wrapped_live_model(tmp_path):
    """DDP's `.module` and torch.compile's `_orig_mod` are looked through."""
    outer = nn.Module()
    outer.module = live(tmp_path)

    assert codes(vlcheck.audit(SOUND.spec(tmp_path), offline=True, projection=no_projection, model=outer)) == set()


def test_patch_is_not_run_unless_allowed(tmp_path):
    """Without --allow-code the unpatched model is judged, and the report says so."""
    spec = run(patch="tests.broken.patches:failing").spec(tmp_path)

    report = vlcheck.audit(spec, offline=True, stored_base=StoredBase(115))

    assert codes(report) == set()
    assert report.remarks[0] == (
        "model.patch tests.broken.patches:failing was not run (that takes --allow-code): everything here describes "
        "the unpatched model"
    )


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ("tests.broken.patches:failing", "RuntimeError: no such attribute in this version"),
        ("tests.broken.patches:absent", "AttributeError: module 'tests.broken.patches' has no attribute 'absent'"),
        ("tests.nowhere:patch", "ModuleNotFoundError: No module named 'tests.nowhere'"),
    ],
)
def test_patch_that_fails_is_the_users_error(patch, message, tmp_path):
    """One message at model.patch, no traceback."""
    with pytest.raises(ConfigError, match=rf"model.patch {patch} failed: {message}"):
        vlcheck.audit(run(patch=patch).spec(tmp_path), offline=True, allow_code=True)


def test_default_remark_names_what_was_not_seen(tmp_path):
    """A script's own patches are invisible, and the reader is told."""
    (remark,) = vlcheck.audit(SOUND.spec(tmp_path), offline=True, select=("VLC106",)).remarks
    assert remark.startswith("patches that your training script applies")


def test_versions_outside_the_tested_range_are_said():
    """One remark a package, with the range."""
    seen = {"torch": "2.14.0+cu130", "transformers": "5.16.2", "peft": "0.21.9", "bitsandbytes": "missing"}
    assert untested(seen) == [
        "torch 2.14.0+cu130 is outside the tested range 2.11 to 2.13; findings may not hold there",
        "transformers 5.16.2 is outside the tested range 5.17 to 5.23; findings may not hold there",
        "bitsandbytes missing is outside the tested range 0.50 to 0.50; findings may not hold there",
    ]


def test_audio_run_reaches_the_audio_tower(tmp_path):
    """With audio in the data every adapter of the audio tower is fed and gets a gradient."""
    spoken = replace(
        run(lambda: tiny.gemma4(audio=True)).spec(tmp_path), data=Data(modalities=("image", "text", "audio"))
    )

    report = vlcheck.audit(spoken, offline=True, select=("VLC406", "VLC407"))

    assert [o.verdict for o in report.outcomes] == [Verdict.PASSED, Verdict.NOT_APPLICABLE]


def test_unknown_model_ends_the_audit(tmp_path):
    """No rule could be judged: that is an error, not a report full of skips."""
    spec = replace(SOUND.spec(tmp_path), model=ModelRef(id="google/gemma-4-31b-ti"))
    with pytest.raises(ConfigError, match="did you mean google/gemma-4-31B-it"):
        vlcheck.audit(spec, offline=True)
