"""A saved adapter on its base: whole, or a refusal that says what is missing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from vlcheck.adapters.saved import SETTINGS, WEIGHTS, read_adapter
from vlcheck.evaluation.attach import attach, build_evaluated, differences, digest
from vlcheck.model.reference import build_reference
from vlcheck.model.targets import resolve
from vlcheck.processing import time_limit
from vlcheck.spec import ConfigError, Lora


@pytest.fixture
def folder(adapter, tmp_path):
    """A copy to damage."""
    return shutil.copytree(adapter, tmp_path / "adapter")


def rewrite(folder, change):
    """The file with other tensors."""
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})


def named(tiny):
    """Modules that the recipe's settings name."""
    return list(resolve(build_reference(tiny.values), tiny.spec.lora, tiny.family).modules)


def logits(model, tiny):
    batch = tiny.collator.prompts(tiny.rows(2), [1, 1])
    with torch.no_grad():
        return model(**batch, logits_to_keep=1).logits


def test_an_attached_adapter_is_the_one_that_was_saved(tiny, folder):
    """Same logits as the model that saved it, and others than the base's."""
    saved = read_adapter(folder)
    model = build_evaluated(tiny.spec, tiny.family, saved, config=tiny.values)

    torch.testing.assert_close(logits(model, tiny), logits(tiny.adapted(), tiny))
    assert not torch.allclose(logits(model, tiny), logits(tiny.base(), tiny))
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training


def test_without_an_adapter_the_base_answers(tiny):
    """Random weights are those that training starts from."""
    found = build_evaluated(tiny.spec, tiny.family, config=tiny.values).state_dict()
    expected = tiny.base().state_dict()

    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: {key: t[key] for key in list(t)[2:]}, "2 adapter weights of the model are not in it"),
        (lambda t: {key.replace("layers.0", "layers.9"): t[key] for key in t}, "tensors have no place"),
        (lambda t: t | {"base_model.model.head.lora_A.weight": torch.zeros(16, 64)}, "1 of its"),
        (lambda t: {k: v[:4].contiguous() if "lora_A" in k else v for k, v in t.items()}, "tensors have another shape"),
        (lambda t: t | {key: v * torch.nan for key, v in list(t.items())[:1]}, "values that are not finite in 1"),
    ],
)
def test_a_misfit_is_refused(tiny, folder, base_copy, change, complaint):
    """Weights that are missing, unknown, of another shape or no numbers: one line with a count and an example."""
    rewrite(folder, change)

    with pytest.raises(ConfigError, match=complaint) as refused:
        attach(base_copy(), read_adapter(folder), tiny.family)
    assert "\n" not in str(refused.value)
    assert "lora_" in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"peft_type": "LOHA"}, "describes a LOHA adapter"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights pissa, which changes the base"),
        ({"target_modules": ["nowhere"]}, "does not fit this model, PEFT says"),
    ],
)
def test_settings_of_no_use(tiny, folder, base_copy, settings, complaint):
    """What cannot be attached, or would change the base, is refused by name."""
    file = folder / SETTINGS
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))

    with pytest.raises(ConfigError, match=complaint):
        attach(base_copy(), read_adapter(folder), tiny.family)


def test_no_settings(tiny, folder, base_copy):
    """Tensors alone do not say how they are attached."""
    (folder / SETTINGS).unlink()

    with pytest.raises(ConfigError, match=r"holds no adapter_config\.json"):
        attach(base_copy(), read_adapter(folder), tiny.family)


@pytest.fixture
def base_copy(tiny):
    """A base for an attempt that may leave adapters on it."""
    return tiny.base


def test_rank_and_targets_are_the_adapter_s(tiny, tmp_path):
    """They may differ from the config's; that is said, and the adapter's count."""
    model = tiny.adapted(r=2, target_modules=("q_proj", "v_proj"), exclude_modules="model.vision_tower.*")
    model.save_pretrained(tmp_path / "other")
    saved = read_adapter(tmp_path / "other")
    spec = replace(tiny.spec, lora=Lora(r=16, lora_alpha=32, target_modules="all-linear"))
    attached = build_evaluated(spec, tiny.family, saved, config=tiny.values)
    said = differences(spec, saved, attached, named(tiny))

    torch.testing.assert_close(logits(attached, tiny), logits(model, tiny))
    assert "lora.r is 2 in the adapter, 16 in the config" in said
    left = len(named(tiny)) - 4
    assert any(f"the config names and the adapter leaves alone: {left} (" in sentence for sentence in said)


def test_an_adapter_of_the_config_is_as_the_config_says(tiny, adapter):
    """Nothing to remark on rank, targets or base."""
    saved = read_adapter(adapter)
    model = build_evaluated(tiny.spec, tiny.family, saved, config=tiny.values)

    assert differences(tiny.spec, saved, model, named(tiny)) == []


def test_digest_sees_settings_and_tensors(folder):
    """Another alpha or another tensor is another adapter."""
    before = digest(read_adapter(folder))
    rewrite(folder, lambda tensors: {key: 2 * tensor for key, tensor in tensors.items()})
    between = digest(read_adapter(folder))
    file = folder / SETTINGS
    file.write_text(file.read_text().replace('"lora_alpha": 32', '"lora_alpha": 64'))

    assert len({before, between, digest(read_adapter(folder))}) == 3


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"target_modules": "(q_proj"}, r"'\(q_proj', which is no regex: missing \)"),
        ({"exclude_modules": "*"}, r"'\*', which is no regex: nothing to repeat"),
        ({"rank_pattern": {"[": 4}}, r"'\[', which is no regex: unterminated"),
        ({"alpha_pattern": {"(?P<a": 4}}, "which is no regex"),
        ({"target_modules": r"(\w+\.?)+\Zx"}, "did not come to an end within 1 s"),
    ],
)
def test_a_bad_regex_is_told_in_one_line(tiny, folder, base_copy, monkeypatch, change, complaint):
    """One that cannot be compiled, and one that would never come to an end."""
    monkeypatch.setattr(time_limit, "SECONDS", 1.0)
    settings = json.loads((folder / SETTINGS).read_text())
    (folder / SETTINGS).write_text(json.dumps({**settings, **change}))
    with pytest.raises(ConfigError, match=complaint) as refused:
        attach(base_copy(), read_adapter(folder), tiny.family)
    assert len(str(refused.value).splitlines()) == 1
