"""Where each tensor of a base's files goes."""

from __future__ import annotations

import pytest

from tests import tiny
from vlcheck.model import catalogue
from vlcheck.model.build import UnbuildableConfig, build_base
from vlcheck.model.stored_names import stored_places


def test_names_of_an_older_form_are_found():
    """Gemma 3 is published under names from before transformers 4.52."""
    model = build_base(tiny.gemma3())
    names = ["language_model.model.norm.weight", "vision_tower.vision_model.post_layernorm.weight", "strange.weight"]
    old, tower, strange = stored_places(model, names).values()

    assert (old.name, old.whole) == ("model.language_model.norm.weight", True)
    assert tower.name in model.state_dict()
    assert strange.name not in model.state_dict()


def test_names_of_the_model_itself_stay():
    """A checkpoint that this version saved."""
    model = build_base(tiny.gemma4())
    own = model.state_dict()

    assert {name: place.name for name, place in stored_places(model, own).items()} == {name: name for name in own}


def test_what_is_turned_or_joined_on_the_way_is_told():
    """Experts of Qwen3-VL are stored transposed."""
    model = build_base(tiny.shrunken("Qwen/Qwen3-VL-30B-A3B-Instruct"))
    key = next(key for key in model.state_dict() if key.endswith("experts.gate_up_proj"))
    plain = next(key for key in model.state_dict() if key.endswith("q_proj.weight"))

    assert {place.whole for place in stored_places(model, [key]).values()} == {False}
    assert {place.whole for place in stored_places(model, [plain]).values()} == {True}


@pytest.mark.slow
def test_every_known_model_is_found_by_its_published_names():
    """Nothing of the model is left out, whatever its family's files call it."""
    from transformers.core_model_loading import revert_weight_conversion

    looked = 0
    for entry in catalogue.entries():
        try:
            model = build_base(entry.config)
        except UnbuildableConfig:  # needs a package that is not here
            continue
        tied = getattr(model, "all_tied_weights_keys", None) or {}
        own = {key: tensor for key, tensor in model.state_dict().items() if key not in tied}
        places = stored_places(model, revert_weight_conversion(model, dict(own)))
        assert own.keys() - {place.name for place in places.values()} == set(), entry.hub_id
        looked += 1
    assert looked > 50
