"""A base whose weights are not all there is refused: before a GPU is paid for, and when it is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.training.runs import parts, recipe
from vlcheck.finding import NotApplicable, Unavailable
from vlcheck.model.base_weights import StoredBase
from vlcheck.model.build import UnbuildableConfig, Weights, build_unadapted, load_base
from vlcheck.model.reference import read_stored_base
from vlcheck.spec import Quantization

Tensors = dict[str, torch.Tensor]
FIRST = "model.language_model.layers.0.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """The tiny model as transformers saves it."""
    folder = tmp_path_factory.mktemp("base")
    build_unadapted(recipe(), Weights.RANDOM, config=parts(shipped=True)["config"]).save_pretrained(folder)
    return folder


def changed(base: Path, folder: Path, change: Callable[[Tensors], Tensors]) -> Path:
    """A copy with other tensors."""
    (folder / "config.json").write_text((base / "config.json").read_text())
    save_file(change(load_file(base / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})
    return folder


def of(folder: Path, **model):
    spec = recipe()
    return replace(spec, model=replace(spec.model, id=str(folder), weights="pretrained", **model))


def values(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def half(tensors: Tensors) -> Tensors:
    return dict(list(tensors.items())[: len(tensors) // 2 + 2])


def prefixed(tensors: Tensors) -> Tensors:
    return {f"foreign.{name}": tensor for name, tensor in tensors.items()}


def none(tensors: Tensors) -> Tensors:
    return {}


def surplus(tensors: Tensors) -> Tensors:
    return {**tensors, "model.language_model.layers.9.mlp.up_proj.weight": torch.ones(2)}


def misshapen(tensors: Tensors) -> Tensors:
    return {**tensors, FIRST: torch.ones(3, 5)}


MISFITS = {
    half: r"56 weights of the model are not in it: model\.vision_tower\.",
    prefixed: r"116 weights of the model are not in it: lm_head\.weight, .*; 115 of its tensors have no place in",
    none: "116 weights of the model are not in it",
    surplus: r"1 of its tensors have no place in the model: model\.language_model\.layers\.9\.mlp\.up_proj\.weight$",
    misshapen: r"1 tensors have another shape: model\.language_model\.layers\.0\.mlp\.up_proj\.weight \[3, 5\] for \[",
}


@pytest.mark.parametrize("change", MISFITS)
def test_a_base_that_is_not_whole_is_refused(base, tmp_path, change):
    """By the loader, and by the headers alone, in the same words."""
    folder = changed(base, tmp_path, change)
    with pytest.raises(UnbuildableConfig, match=MISFITS[change]) as refused:
        load_base(of(folder), "cpu")
    assert str(refused.value).endswith(read_stored_base(folder, values(folder), "float32").misfits)


def test_a_whole_base_is_loaded(base):
    """Its head is tied to the embedding, and in no file."""
    assert load_base(of(base), "cpu").lm_head.weight.isfinite().all()
    assert read_stored_base(base, values(base), "float32") == StoredBase(115)


def test_shards_are_read_where_the_index_names_them(base, tmp_path):
    model = load_base(of(base), "cpu")
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    assert read_stored_base(tmp_path, values(tmp_path), "float32") == StoredBase(115)
    next(tmp_path.glob("model-00002*")).unlink()
    with pytest.raises(Unavailable, match="which is no file of its folder"):
        read_stored_base(tmp_path, values(tmp_path), "float32")


def test_a_quantised_base_is_loaded_and_judged_then(base, tmp_path):
    """Quantised on the way, and saved quantised: scales and quant maps belong to weights.

    Where a packed weight is missing, transformers (5.23) fails while it draws one, before it can tell which.
    """
    spec = replace(of(base), quantization=Quantization(load_in_4bit=True, bnb_4bit_quant_type="nf4"))
    load_base(spec, "cpu").save_pretrained(tmp_path)
    load_base(replace(spec, model=of(tmp_path).model), "cpu")
    whole = read_stored_base(tmp_path, values(tmp_path), "float32")
    assert whole == StoredBase(115)
    foreign = {**values(tmp_path), "quantization_config": {"quant_method": "gptq"}}
    with pytest.raises(NotApplicable, match="saved quantised"):
        read_stored_base(tmp_path, foreign, "float32")
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({k: t for k, t in tensors.items() if not k.startswith(FIRST)}, tmp_path / "model.safetensors")
    assert (
        f"1 weights of the model are not in it: {FIRST}"
        in read_stored_base(tmp_path, values(tmp_path), "float32").misfits
    )
    with pytest.raises(UnbuildableConfig, match="cannot be loaded"):
        load_base(replace(spec, model=of(tmp_path).model), "cpu")


def test_a_base_in_the_cache_of_the_hub_is_judged(base, tmp_path, monkeypatch):
    """The headers of the snapshot that the config lies in; one without weights is told."""
    from huggingface_hub import constants

    from vlcheck.evidence.resolve import Evidence

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--someone--tiny" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("a" * 40)
    (snapshot / "config.json").write_text((base / "config.json").read_text())
    spec = replace(of(base), model=replace(of(base).model, id="someone/tiny"))
    with pytest.raises(Unavailable, match=r"holds neither model\.safetensors"):
        Evidence(spec, {}, offline=True).get("stored_base")
    (snapshot / "model.safetensors").symlink_to(base / "model.safetensors")
    assert Evidence(spec, {}, offline=True).get("stored_base") == StoredBase(115)


def test_a_nan_in_the_base_is_refused(base, tmp_path):
    def poison(tensors: Tensors) -> Tensors:
        tensors[FIRST][1, 1] = torch.nan
        return tensors

    with pytest.raises(UnbuildableConfig, match=rf"holds weights that are not a number: {FIRST}"):
        load_base(of(changed(base, tmp_path, poison)), "cpu")


def test_infinite_bounds_are_no_fault(base, tmp_path):
    def unbounded(tensors: Tensors) -> Tensors:
        name = next(name for name in tensors if name.endswith("output_max"))
        return {**tensors, name: torch.full_like(tensors[name], torch.inf)}

    load_base(of(changed(base, tmp_path, unbounded)), "cpu")
