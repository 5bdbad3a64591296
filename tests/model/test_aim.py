"""What each framework makes of `all-linear` and of no targets, on real tiny models of families with other names."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from tests import tiny
from vlcheck.config.load import load_mapping
from vlcheck.engine import audit
from vlcheck.evidence.resolve import Evidence
from vlcheck.finding import Report
from vlcheck.model.config import ModelConfig
from vlcheck.model.family import Part
from vlcheck.model.reference import build_reference
from vlcheck.model.targets import Targets, linears, parts_by_path
from vlcheck.spec import CheckpointingKwargs, RunSpec

LLAVA, QWEN3, GEMMA3 = "llava-hf/llava-1.5-7b-hf", "Qwen/Qwen3-VL-4B-Instruct", "google/gemma-3-4b-it"
HEARING = "google/gemma-4-E2B-it"


@cache
def values(hub_id: str) -> dict[str, Any]:
    """The config of a tiny model of this kind."""
    return tiny.gemma4(audio=True) if hub_id == HEARING else tiny.shrunken(hub_id)


@cache
def reference(hub_id: str) -> Any:
    """That model, untouched."""
    return build_reference(values(hub_id))


def described(framework: str | None, *, freeze: tuple[str, ...] | None = None, intent: dict[str, str] | None = None,
              **lora: Any) -> RunSpec:  # fmt: skip
    """A config that says only this, with its framework's defaults."""
    training = {} if framework is None else {"framework": framework}
    training |= {} if freeze is None else {"freeze": list(freeze)}
    return load_mapping({"model": {"id": "org/name"}, "lora": lora, "training": training, "intent": intent or {}})


def evidence(hub_id: str, spec: RunSpec) -> Evidence:
    """What is known of a run of the tiny model."""
    return Evidence(spec, {"config": ModelConfig(values(hub_id), "test"), "reference": reference(hub_id)}, offline=True)


def adapted(hub_id: str, spec: RunSpec) -> dict[Part, set[str]]:
    """Last names of the layers that are targeted, by part."""
    known = evidence(hub_id, spec)
    targets: Targets = known.get("targets")
    of = parts_by_path(reference(hub_id), known.get("family"))
    found: dict[Part, set[str]] = {}
    for name in targets.modules:
        found.setdefault(of[name], set()).add(name.removesuffix(".linear").rpartition(".")[2])
    return found


def judged(hub_id: str, spec: RunSpec, *codes: str) -> Report:
    """The report of these rules."""
    given = {"config": ModelConfig(values(hub_id), "test"), "reference": reference(hub_id)}
    return audit(spec, offline=True, select=codes, **given)


def every(hub_id: str, *parts: Part) -> set[str]:
    """Last names of all linear layers of these parts."""
    of = parts_by_path(reference(hub_id), evidence(hub_id, described(None)).get("family"))
    names = {name for name in linears(reference(hub_id)) if of[name] in parts}
    return {name.removesuffix(".linear").rpartition(".")[2] for name in names}


@pytest.mark.parametrize("hub_id", [LLAVA, QWEN3, GEMMA3, HEARING])
@pytest.mark.parametrize("framework", ["llamafactory", "ms-swift"])
@pytest.mark.parametrize("lora", [{}, {"target_modules": "all-linear"}], ids=["unset", "all-linear"])
def test_the_language_model_alone_by_default(framework, hub_id, lora):
    """Tower, projector and hearing are frozen unless the run says otherwise; a projector inside its tower too."""
    assert adapted(hub_id, described(framework, **lora)) == {Part.LANGUAGE: every(hub_id, Part.LANGUAGE)}


def test_what_is_not_frozen_is_adapted():
    """`freeze` says otherwise; a projector stays frozen inside a tower that is not, and the other way round."""
    tower = adapted(QWEN3, described("ms-swift", freeze=("projector",)))
    assert tower.keys() == {Part.LANGUAGE, Part.VISION}
    assert adapted(QWEN3, described("ms-swift", freeze=("vision",))).keys() == {Part.LANGUAGE, Part.PROJECTOR}
    assert adapted(QWEN3, described("ms-swift", freeze=())).keys() == {Part.LANGUAGE, Part.VISION, Part.PROJECTOR}
    assert adapted(QWEN3, described("llamafactory", freeze=())).keys() == {Part.LANGUAGE, Part.VISION}


def test_layers_named_one_by_one():
    """LLaMA-Factory leaves frozen parts out of named targets too; ms-swift and an exclude of the run's own stay."""
    names = {"target_modules": ["q_proj", "v_proj"]}
    assert adapted(LLAVA, described("llamafactory", **names)).keys() == {Part.LANGUAGE}
    assert adapted(LLAVA, described("ms-swift", **names)).keys() == {Part.LANGUAGE, Part.VISION}
    both = adapted(LLAVA, described("ms-swift", target_modules="all-linear", exclude_modules=["up_proj"]))
    assert both == {Part.LANGUAGE: every(LLAVA, Part.LANGUAGE) - {"up_proj"}}


def test_unsloth_picks_by_name():
    """Attention and MLP layers of tower and language model; projectors pass, Gemma 4's embedders and hearing do not."""
    parts = {Part.VISION: every(LLAVA, Part.VISION), Part.LANGUAGE: every(LLAVA, Part.LANGUAGE)}
    assert adapted(LLAVA, described("unsloth")) == parts
    assert adapted(QWEN3, described("unsloth", target_modules="all-linear")).keys() == {Part.VISION, Part.LANGUAGE}
    assert adapted(HEARING, described("unsloth")).keys() == {Part.VISION, Part.PROJECTOR, Part.LANGUAGE}
    assert Part.AUDIO in adapted(HEARING, described("unsloth", target_modules="all-linear"))


@pytest.mark.parametrize("framework", [None, "trl", "axolotl", "transformers"])
def test_peft_decides_for_the_others(framework):
    """PEFT's own targets of Gemma 4 where none are named, and every linear layer for all-linear."""
    assert adapted(HEARING, described(framework)) == {Part.LANGUAGE: {"q_proj", "v_proj"}}
    assert adapted(LLAVA, described(framework, target_modules="all-linear")).keys() == {
        Part.VISION, Part.PROJECTOR, Part.LANGUAGE,
    }  # fmt: skip


def test_one_run_is_judged_and_planned():
    """The model that is built has the adapters that were found targeted."""
    known = evidence(LLAVA, described("llamafactory"))
    assert {row.name for row in known.get("modules").adapters()} == set(known.get("targets").modules)


def test_finding_says_whose_default_it_is():
    """What is meant to be trained and is frozen by default: whose default, where it stands, what says otherwise."""
    spec = described("llamafactory", intent={"vision": "train"})
    (outcome,) = judged(LLAVA, spec, "VLC402").found()
    (finding,) = outcome.findings
    assert "llamafactory 0.9.5 freezes it unless told otherwise (llamafactory/hparams/finetuning_args.py" in (
        finding.message
    )
    assert finding.fix == "target_modules: all-linear, freeze: [audio]"
    freed = replace(spec, training=replace(spec.training, freeze=("audio",)))
    assert not judged(LLAVA, freed, "VLC402").found()


def test_projector_that_no_all_linear_takes():
    """Unsloth and LLaMA-Factory pass over projectors, so that one is trained in full."""
    for framework in ("unsloth", "llamafactory"):
        spec = described(framework, intent={"projector": "train", "vision": "freeze"}, target_modules="all-linear")
        (outcome,) = judged(LLAVA, spec, "VLC403").found()
        assert outcome.findings[0].fix == "modules_to_save: [multi_modal_projector]"


def test_default_targets_of_a_framework():
    """No targets under Unsloth: the note says what it picks and where that stands; the report's head says it too."""
    report = judged(LLAVA, described("unsloth"), "VLC414")
    (outcome,) = report.found()
    assert "unsloth 2026.10.9 picks the layers by their names (unsloth_zoo-2026.10.9" in outcome.findings[0].message
    assert any("picks the layers by their names" in remark for remark in report.remarks)


def test_freeze_is_a_switch_of_some_frameworks():
    """A run of another framework that sets it is refused, with what to write there."""
    with pytest.raises(Exception, match=r"freeze is a switch of llamafactory, ms-swift, unsloth, and of runs without"):
        described("trl", freeze=("vision",))


@pytest.mark.parametrize(("framework", "loses"), [("unsloth", False), ("llamafactory", False), ("trl", True)])
def test_reentrant_checkpointing_of_a_framework_that_wakes_inputs(framework, loses):
    """Three frameworks make the inputs of a tower's blocks require gradients; with the others the tower gets none."""
    spec = described(framework, freeze=() if framework != "trl" else None, target_modules="all-linear")
    kwargs = CheckpointingKwargs(use_reentrant=True)
    reentrant = replace(spec.training, gradient_checkpointing=True, gradient_checkpointing_kwargs=kwargs)
    report = judged(QWEN3, replace(spec, quantization=None, training=reentrant), "VLC406")
    assert bool(report.found()) is loses
