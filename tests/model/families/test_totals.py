"""Every catalogue model builds, and its size is the published one, difference by difference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.model.families.models import ENTRIES, IDS, entry, family, reference, table
from vlcheck.model.build import transformers_config
from vlcheck.model.family import CLIP_BOUNDS

SHARED = Path(__file__).parents[4] / "shared" / "data" / "configs"
PUBLISHED = [each.hub_id for each in ENTRIES if each.published_parameters is not None]


@pytest.mark.parametrize("hub_id", PUBLISHED)
def test_total_is_the_published_one(hub_id):
    """Parameters, what a checkpoint counts beside them, and no rest."""
    total = parameters(hub_id) + counted_buffers(hub_id) + shared_caches(hub_id) - padded_rows(hub_id)

    assert total == entry(hub_id).published_parameters


@pytest.mark.parametrize("hub_id", [hub_id for hub_id in IDS if not hub_id.startswith("vlcheck/")])
def test_model_builds_and_its_totals_are_recorded(hub_id):
    """The parameter total, and that of every top-level module, equal the table beside the configs."""
    if not SHARED.is_dir():
        pytest.skip("../shared/data/configs is not here")
    recorded = json.loads((SHARED / "param-parts.json").read_text())[hub_id.split("/")[1]]

    assert parameters(hub_id) == recorded["params"]
    for root, total in recorded["parts"].items():
        inside = [p for name, p in reference(hub_id).named_parameters() if name == root or name.startswith(root + ".")]
        assert sum(p.numel() for p in inside) == total, root


@pytest.mark.parametrize("hub_id", IDS)
def test_parts_add_up_to_the_model(hub_id):
    """No parameter is counted twice or left out, tied ones aside, which are counted at both ends."""
    model = reference(hub_id)
    tied = sum(model.get_parameter(name).numel() for name in model.all_tied_weights_keys)

    assert sum(row.parameters for row in table(hub_id).rows) == parameters(hub_id) + tied


def test_unverified_entries_name_no_total():
    """A total that no source gives is not printed as if one did."""
    for each in ENTRIES:
        assert each.verified is (each.published_parameters is not None)
        assert each.published_basis.startswith("unverified: ") is not each.verified
        assert each.source


def test_every_entry_has_its_name_as_file():
    """A model is found by the name of its file."""
    folder = Path(__file__).parents[3] / "vlcheck" / "model" / "catalogue"
    assert sorted(path.stem for path in folder.glob("*.json")) == sorted(each.hub_id.split("/")[1] for each in ENTRIES)


def parameters(hub_id: str) -> int:
    return sum(parameter.numel() for parameter in reference(hub_id).parameters())


def counted_buffers(hub_id: str) -> int:
    """Persistent buffers; Google's totals leave clip bounds out."""
    model = reference(hub_id)
    names = model.state_dict().keys() - {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return sum(model.get_buffer(name).numel() for name in names if name.rpartition(".")[2] not in CLIP_BOUNDS)


def shared_caches(hub_id: str) -> int:
    """Gemma 4's checkpoints store k, v and k_norm of layers that reuse another's; the class has none of them."""
    text = transformers_config(entry(hub_id).config).to_dict().get("text_config", {})
    shared = text.get("num_kv_shared_layers") or 0
    heads, hidden = text.get("num_key_value_heads"), text.get("hidden_size")
    total = 0
    for kind in text.get("layer_types", [])[-shared:] if shared else ():
        width = entry(hub_id).config["text_config"]["global_head_dim" if kind == "full_attention" else "head_dim"]
        total += 2 * hidden * heads * width + width
    return total


def padded_rows(hub_id: str) -> int:
    """KerasHub counts PaliGemma without the 64 rows that transformers adds to the vocabulary."""
    if "KerasHub" not in entry(hub_id).published_basis:
        return 0
    text = entry(hub_id).config["text_config"]
    return (text["vocab_size"] - 257_152) * text["hidden_size"]


def test_keras_is_one_and_google_are_five():
    """The explanations above explain few models."""
    assert sum(padded_rows(hub_id) > 0 for hub_id in IDS) == 1
    assert {family(hub_id).name for hub_id in IDS if counted_buffers(hub_id)} == {"Gemma 4", "Gemma 4 12B"}
    assert [hub_id for hub_id in IDS if shared_caches(hub_id)] == ["google/gemma-4-E2B-it", "google/gemma-4-E4B-it"]
