"""The table of names that vLLM expects: every row has its source, and published names of every family fit it."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from vlcheck.adapters.serving import renamed, serving_names, table
from vlcheck.model import catalogue

ROWS = {row["architecture"]: row for row in table()["rows"]}


def test_every_row_has_its_source_or_says_that_there_is_none():
    """Names and modules stand beside the release or commit that they were read in, or are null together."""
    assert len(ROWS) == len(table()["rows"])
    for row in ROWS.values():
        known = row["modules"] is not None
        assert known == (row["renames"] is not None) == (row["version"] is not None)
        assert (row["source"] or "").startswith("https://") == known
        assert row["lora"] in (True, False, None)
    assert table()["lora"]["source"].startswith("https://")


def test_names_with_and_without_a_module(tmp_path):
    """What a Gemma 4 holds is expected; a name that no module of vLLM's takes is told."""
    config = {"architectures": ["Gemma3ForConditionalGeneration"]}
    sound = ["language_model.model.norm.weight", "model.vision_tower.x.weight", "lm_head.weight"]
    save_file({name: torch.ones(1) for name in sound}, tmp_path / "sound.safetensors")
    save_file({"base_model.model.norm.weight": torch.ones(1)}, tmp_path / "odd.safetensors")
    found = serving_names(config, [tmp_path / "sound.safetensors"])

    assert found["expected"] is True
    assert (found["lora"], found["version"]) == (True, "0.26.0")
    odd = serving_names(config, [tmp_path / "odd.safetensors"])
    assert (odd["expected"], odd["strange"]) == (False, ["base_model.model.norm.weight"])
    assert serving_names({"architectures": ["Nobody"]}, [])["expected"] is None
    assert serving_names({"architectures": ["SmolVLMForConditionalGeneration"]}, [])["expected"] is None


def test_a_prefix_is_renamed_once():
    """The first that fits, and names without one stay."""
    renames = ROWS["Qwen2_5_VLForConditionalGeneration"]["renames"]

    assert renamed("model.language_model.layers.0", renames) == "language_model.model.layers.0"
    assert renamed("model.layers.0", renames) == "language_model.model.layers.0"
    assert renamed("visual.blocks.0", renames) == "visual.blocks.0"


@pytest.mark.slow
def test_published_names_of_every_known_model_are_expected():
    """As transformers saves them, which is as they were published."""
    from transformers.core_model_loading import revert_weight_conversion

    from vlcheck.model.build import UnbuildableConfig, build_base

    looked = set()
    for entry in catalogue.entries():
        try:
            model = build_base(entry.config)
        except UnbuildableConfig:  # needs a package that is not here
            continue
        row = ROWS[type(model).__name__]
        if row["modules"] is not None:
            tied = getattr(model, "all_tied_weights_keys", None) or {}
            kept = {key: tensor for key, tensor in model.state_dict().items() if key not in tied}
            names = revert_weight_conversion(model, kept)
            assert [n for n in names if not renamed(n, row["renames"]).startswith(tuple(row["modules"]))] == []
            looked.add(row["architecture"])
    assert len(looked) >= 10
