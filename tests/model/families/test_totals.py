"""Every catalogue model builds, and its size is the published one, difference by difference."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.model.families.models import (
    ENTRIES,
    IDS,
    KIN,
    NEEDS_TIMM,
    PARTS_ONLY,
    SMALLEST,
    entry,
    family,
    reference,
    table,
)
from vlcheck.model.build import transformers_config
from vlcheck.model.family import CLIP_BOUNDS

SHARED = Path(__file__).parents[4] / "shared" / "data" / "configs"
RECORDED = json.loads((SHARED / "param-parts.json").read_text()) if SHARED.is_dir() else {}
NAMED = re.compile(r"[-_](\d+(?:\.\d+)?)([BbM])(?:-|$)")
"""A size in a model's name; the total of a mixture's first number counts."""
FEW = (*SMALLEST, *KIN, *PARTS_ONLY)
"""One model of each structure; larger ones of the same structure wait for `-m slow`."""
PUBLISHED = [each.hub_id for each in ENTRIES if each.published_parameters is not None]


def few(ids: list[str]) -> pytest.MarkDecorator:
    """A test of each, those of another size at `-m slow` alone."""
    every = [pytest.param(hub_id, marks=() if hub_id in FEW else pytest.mark.slow) for hub_id in ids]
    return pytest.mark.parametrize("hub_id", every)


@few(PUBLISHED)
def test_total_is_the_published_one(hub_id):
    """Parameters, what a checkpoint counts beside them, and no rest."""
    total = parameters(hub_id) + counted_buffers(hub_id) + shared_caches(hub_id) - padded_rows(hub_id)

    assert total == entry(hub_id).published_parameters


@few([hub_id for hub_id in IDS if hub_id.split("/")[1] in RECORDED])
def test_model_builds_and_its_totals_are_recorded(hub_id):
    """The parameter total, and that of every top-level module, equal the table beside the configs."""
    recorded = RECORDED[hub_id.split("/")[1]]

    assert parameters(hub_id) == recorded["params"]
    for root, total in recorded["parts"].items():
        inside = [p for name, p in reference(hub_id).named_parameters() if name == root or name.startswith(root + ".")]
        assert sum(p.numel() for p in inside) == total, root


@few(IDS)
def test_parts_add_up_to_the_model(hub_id):
    """No parameter is counted twice or left out, tied ones aside, which are counted at both ends."""
    model = reference(hub_id)
    tied = sum(model.get_parameter(name).numel() for name in model.all_tied_weights_keys)

    assert sum(row.parameters for row in table(hub_id).rows) == parameters(hub_id) + tied


@pytest.mark.parametrize("hub_id", [
    pytest.param(hub_id, marks=() if hub_id in (*KIN, *PARTS_ONLY) else pytest.mark.slow)
    for hub_id in IDS if hub_id not in PUBLISHED and NAMED.search(hub_id)
])  # fmt: skip
def test_total_is_about_the_size_in_the_name(hub_id):
    """What no source confirms exactly is at least of the size that the model is called by, tower and head aside."""
    size = float(NAMED.search(hub_id)[1]) * (1e6 if NAMED.search(hub_id)[2] == "M" else 1e9)

    assert 0.95 * size < parameters(hub_id) < 1.3 * size + 5e8


def test_models_of_one_shape_differ_in_what_their_names_say():
    """A copied entry was changed where it should be."""

    def config(hub_id: str) -> dict[str, object]:
        return dict(entry(hub_id).config)

    for size in ("4b", "12b", "27b"):
        assert config(f"google/gemma-3-{size}-pt") == {**config(f"google/gemma-3-{size}-it"), "eos_token_id": 1}
    assert config("mistralai/Mistral-Small-3.2-24B-Instruct-2506") == config(
        "mistralai/Mistral-Small-3.1-24B-Instruct-2503"
    )


@pytest.mark.parametrize("hub_id", NEEDS_TIMM)
def test_gemma_3n_is_configured_as_its_conversion_says(hub_id):
    """Without timm it is not built; transformers reads its config, and what the conversion script sets is there."""
    text = transformers_config(entry(hub_id).config).text_config
    layers, width, shared = (30, 8192, 10) if "E2B" in hub_id else (35, 16384, 15)

    assert (text.num_hidden_layers, text.num_kv_shared_layers) == (layers, shared)
    assert set(text.intermediate_size) == {width}
    assert list(text.activation_sparsity_pattern) == [0.95] * 10 + [0.0] * (layers - 10)


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


@pytest.mark.slow
def test_keras_is_one_and_google_are_five():
    """The explanations above explain few models."""
    assert sum(padded_rows(hub_id) > 0 for hub_id in PUBLISHED) == 1
    assert {family(hub_id).name for hub_id in PUBLISHED if counted_buffers(hub_id)} == {"Gemma 4", "Gemma 4 12B"}
    assert [hub_id for hub_id in PUBLISHED if shared_caches(hub_id)] == [
        "google/gemma-4-E2B-it",
        "google/gemma-4-E4B-it",
    ]
