"""The skeleton is what training loads: same modules, same layers, same refusals."""

from __future__ import annotations

import sys

import bitsandbytes
import pytest
import torch
import transformers
from packaging.version import Version
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig
from transformers.models.gemma4 import modeling_gemma4

from tests import tiny
from tests.broken import patches
from tests.samples import LANGUAGE, NF4, targets
from vlcheck.model import catalogue
from vlcheck.model.attention import attention_support
from vlcheck.model.build import AdapterRefused, UnbuildableConfig, Weights, adapt, base_of, build_base, build_model
from vlcheck.model.families import family_of
from vlcheck.model.modules import tabulate
from vlcheck.model.random_weights import materialise
from vlcheck.model.reference import build_reference
from vlcheck.model.targets import resolve
from vlcheck.spec import Lora, ModelRef, Quantization, RunSpec

ALL_LINEAR = targets("all-linear")


def spec(**sections) -> RunSpec:
    """A run with all-linear LoRA."""
    return RunSpec(model=ModelRef(id="tiny", dtype="float32"), **{"lora": ALL_LINEAR} | sections)


def random_base(values, **options) -> torch.nn.Module:
    """The architecture with random weights on the CPU."""
    base = build_base(values, **options)
    materialise(base, "cpu", seed=0)
    return base


def kinds(model: torch.nn.Module) -> dict[str, str]:
    """Every module's class, by path."""
    return {name: f"{type(m).__module__}.{type(m).__name__}" for name, m in model.named_modules()}


def test_dora_attaches_to_a_quantised_base_without_storage():
    """PEFT expands packed weights for their norms; on meta there is nothing to expand, and no refusal either."""
    model = build_model(
        spec(lora=targets("all-linear", use_dora=True), quantization=NF4), Weights.META, config=tiny.gemma3()
    )
    norms = {tuple(p.shape) for name, p in model.named_parameters() if "lora_magnitude_vector" in name}

    assert norms
    assert all(len(shape) == 1 for shape in norms)


@pytest.mark.parametrize("values", [tiny.gemma4(audio=True), tiny.gemma4(experts=True), tiny.gemma3()],
                         ids=["gemma4-audio", "gemma4-experts", "gemma3"])  # fmt: skip
def test_meta_and_cpu_builds_have_the_same_modules(values):
    """Structure can be judged without weights: every module of both builds has the same path and class."""
    meta, cpu = (build_model(spec(), weights, config=values) for weights in (Weights.META, Weights.RANDOM))

    assert kinds(meta) == kinds(cpu)
    assert len(kinds(meta)) > 200
    family, reference = family_of(values), build_reference(values)
    assert tabulate(base_of(meta), reference, family) == tabulate(base_of(cpu), reference, family)


@pytest.mark.parametrize(
    "quantization",
    [NF4, Quantization(load_in_4bit=True, llm_int8_skip_modules=("model.vision_tower",)),
     Quantization(load_in_8bit=True)],
    ids=["nf4", "skip list", "int8"],
)  # fmt: skip
def test_quantised_skeleton_equals_from_pretrained(quantization, tmp_path):
    """The same layers become 4-bit or 8-bit as in a real load, and PEFT picks the same classes for them."""
    values = tiny.gemma4()
    random_base(values).save_pretrained(tmp_path)
    settings = {"load_in_4bit": quantization.load_in_4bit, "load_in_8bit": quantization.load_in_8bit,
                "llm_int8_skip_modules": list(quantization.llm_int8_skip_modules or ()) or None}  # fmt: skip
    loaded = AutoModelForImageTextToText.from_pretrained(
        tmp_path, quantization_config=BitsAndBytesConfig(**settings), dtype=torch.bfloat16, device_map="cpu"
    )
    adapted = adapt(loaded, ALL_LINEAR, device="cpu")
    built = build_model(spec(quantization=quantization), Weights.META, config=values)

    assert kinds(built) == kinds(adapted)
    assert {type(p).__name__ for p in built.parameters()} == {type(p).__name__ for p in adapted.parameters()}
    projection = base_of(built).model.embed_vision.embedding_projection
    assert ("4bit" in type(projection).__name__) == (quantization.load_in_4bit)


QUANTISED = {"bf16": None, "nf4": NF4, "int8": Quantization(load_in_8bit=True)}
VALUES = {"gemma4-audio": tiny.gemma4(audio=True), "gemma4-experts": tiny.gemma4(experts=True), "gemma3": tiny.gemma3()}
PAIRED = {"gemma4-audio": "bf16", "gemma4-experts": "nf4", "gemma3": "int8"}
"""Each model and each storage once; the other pairs wait for `-m slow`."""


@pytest.mark.parametrize(("values", "quantization"), [
    pytest.param(VALUES[name], QUANTISED[storage], id=f"{name}-{storage}",
                 marks=() if PAIRED[name] == storage else pytest.mark.slow)
    for name in VALUES for storage in QUANTISED
])  # fmt: skip
def test_tables_of_all_three_builds_are_equal(values, quantization, tmp_path):
    """What the audit saw on meta is what random weights and a real load give: part, type, size, adapter, every row."""
    random_base(values).save_pretrained(tmp_path)
    run = RunSpec(model=ModelRef(id=str(tmp_path)), lora=ALL_LINEAR, quantization=quantization)
    family, reference = family_of(values), build_reference(values)

    tables = [tabulate(base_of(build_model(run, w, config=values)), reference, family) for w in Weights]

    assert tables[0] == tables[1] == tables[2]
    assert len(tables[0].adapters()) > 20
    assert any(row.quantised for row in tables[0].rows) == (quantization is not None)


@pytest.mark.parametrize("quantization", [None, NF4], ids=["bf16", "nf4"])
@pytest.mark.parametrize("values", [tiny.gemma4(audio=True), tiny.gemma4(experts=True), tiny.gemma3()],
                         ids=["gemma4-audio", "gemma4-experts", "gemma3"])  # fmt: skip
def test_random_build_trains(values, quantization):
    """Random weights give a finite loss and finite gradients, and every adapter's lora_B gets one."""
    model = build_model(spec(quantization=quantization), Weights.RANDOM, config=values)
    loss = model(**family_of(values).sample_row(values, frozenset({"image", "text", "audio"}))).loss
    loss.backward()

    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert torch.isfinite(loss)
    assert all(torch.isfinite(grad).all() for grad in gradients.values() if grad is not None)
    reached = [name for name, grad in gradients.items() if "lora_B" in name and grad is not None and grad.any()]
    assert len(reached) == sum("lora_B" in name for name in gradients)


def test_equal_seeds_give_equal_weights():
    """A random build is reproducible."""
    first, again, other = (
        build_model(spec(quantization=NF4), Weights.RANDOM, config=tiny.gemma4(), seed=seed).state_dict()
        for seed in (1, 1, 2)
    )
    drawn = [name for name in first if "lora_" not in name]  # PEFT draws lora_A from the caller's state

    assert all(torch.equal(first[name], again[name]) for name in drawn)
    assert not all(torch.equal(first[name], other[name]) for name in drawn)
    assert len(drawn) > 100


def test_random_build_leaves_the_random_state_alone():
    """Audits run in users' training processes."""
    state = torch.random.get_rng_state()
    random_base(tiny.gemma3())
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no *.safetensors"),
        ({"pytorch_model.bin": b"\x80\x04."}, "pytorch_model.bin is a pickle, which vlcheck never loads"),
        ({"model.safetensors": b"cut"}, "cannot be loaded: SafetensorError"),
    ],
    ids=["empty", "pickle", "truncated"],
)
def test_weights_come_from_safetensors_or_not_at_all(files, message, tmp_path):
    """No pickle is opened; a damaged file is one clear message."""
    tiny.write_folder(tmp_path, tiny.gemma3())
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    run = RunSpec(model=ModelRef(id=str(tmp_path)), lora=ALL_LINEAR)
    with pytest.raises(UnbuildableConfig) as caught:
        build_model(run, Weights.PRETRAINED, config=tiny.gemma3())
    assert message in str(caught.value)


def test_peft_picks_4bit_layers():
    """With `is_loaded_in_4bit` set as from_pretrained sets it, adapters wrap Linear4bit in PEFT's 4-bit class."""
    model = build_model(spec(quantization=NF4), Weights.META, config=tiny.gemma4())
    layer = base_of(model).model.language_model.layers[0].self_attn.q_proj

    assert type(layer).__module__ == "peft.tuners.lora.bnb"
    assert isinstance(layer.base_layer, bitsandbytes.nn.Linear4bit)


SETTINGS = {
    "default": Lora(),
    "all-linear": ALL_LINEAR,
    "all-linear, excluded by regex": targets("all-linear", exclude_modules=r".*vision_tower.*"),
    "all-linear, excluded by name": targets("all-linear", exclude_modules=("o_proj", "vision_tower")),
    "list of inner names": targets(("q_proj.linear", "linear")),
    "exact paths": targets(("model.language_model.layers.0.self_attn.q_proj", "input_proj")),
    "regex": targets(LANGUAGE),
    "some layers": targets(("gate_proj.linear", "per_layer_input_gate", "o_proj.linear"), layers_to_transform=(1,)),
    "saved module": targets("all-linear", modules_to_save=("embed_vision", "nothing")),
    "wrapper": targets(("q_proj",)),
    "nothing": targets(("nothing",)),
    "embedding": targets(("embed_tokens",)),
}


@pytest.mark.parametrize("lora", SETTINGS.values(), ids=SETTINGS)
def test_resolved_targets_are_what_peft_adapts(lora):
    """`resolve` names exactly the modules that PEFT then adapts, or PEFT refuses."""
    values = tiny.gemma4()
    reference = build_reference(values)
    found = resolve(reference, lora, family_of(values))
    try:
        model = build_model(spec(lora=lora), Weights.META, config=values)
    except AdapterRefused:
        assert found.wrappers or not found.modules
        return
    table = tabulate(base_of(model), reference, family_of(values))
    assert set(found.modules) == {row.name for row in table.adapters()}
    assert not found.wrappers


@pytest.mark.parametrize(
    "implementation",
    ["eager", "sdpa", "flex_attention", {"text_config": "sdpa", "vision_config": "eager"}, {"audio_config": "sdpa"}],
)
def test_attention_support_is_what_transformers_enforces(implementation):
    """A model is refused exactly where a submodel is said not to accept the implementation."""
    from vlcheck.model.build import transformers_config

    values = tiny.gemma4(audio=True)
    support = attention_support(build_reference(values), implementation)
    refused = False
    try:
        with torch.device("meta"):
            AutoModelForImageTextToText.from_config(transformers_config(values), attn_implementation=implementation)
    except ValueError as error:
        refused = "does not support" in str(error)
    assert refused == (not all(support.values()))
    if Version(transformers.__version__) >= Version("5.23"):
        assert refused == (implementation not in ("eager", {"text_config": "sdpa", "vision_config": "eager"}))


def test_reference_ignores_patches():
    """Replaced classes and replaced methods do not reach the reference, and stay in place after it."""
    values = tiny.gemma4()
    with patches.undone():
        patches.around()
        replaced = modeling_gemma4.Gemma4ClippableLinear
        assert len(tiny.wrappers(values)) == tiny.VISION_WRAPPERS
        assert modeling_gemma4.Gemma4ClippableLinear is replaced
        built = build_base(values)
        assert sum(isinstance(m, replaced) for m in built.modules()) == tiny.VISION_WRAPPERS
    assert "transformers.models.gemma4._untouched_modeling_gemma4" in sys.modules


def test_impossible_config_is_named():
    """The objection of transformers to a value becomes one message."""
    values = tiny.gemma4()
    values["text_config"]["hidden_size"] = "wide"
    with pytest.raises(UnbuildableConfig, match="hidden_size"):
        build_reference(values)


def test_catalogue_mirror_is_found_by_name():
    """A re-upload of a known model is recognised by its name, whatever its case."""
    assert catalogue.lookup("unsloth/Gemma-4-31B-it").hub_id == "google/gemma-4-31B-it"
    assert catalogue.lookup("google/gemma-5") is None
