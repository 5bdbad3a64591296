"""An adapter in its base: verified, published whole, or refused in one line that names what speaks against it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import tiny
from tests.merges import Merge, rewrite, weights, with_processor, write_adapter, write_base, write_large_base
from vlcheck.adapters.saved import PICKLE, SETTINGS, WEIGHTS, read_adapter
from vlcheck.evaluation.merge import check_merged, merge
from vlcheck.evaluation.merge_folder import REPORT, draft_of
from vlcheck.evaluation.merge_plan import merged_spec, plan_merge
from vlcheck.evidence.options import Options
from vlcheck.evidence.resolve import Evidence
from vlcheck.finding import Unavailable
from vlcheck.model import catalogue
from vlcheck.model.base_weights import INDEX
from vlcheck.model.families import family_of
from vlcheck.model.reference import build_reference
from vlcheck.reports.merge import render_merge
from vlcheck.spec import ConfigError, Lora, ModelRef, RunSpec
from vlcheck.training.content import base_digest
from vlcheck.training.manifest import manifest_text

LORA = Lora(r=4, lora_alpha=8, target_modules="all-linear")
OFFLINE = Options(offline=True)


def manifest(adapter: Path, digest: str) -> None:
    """What vlcheck's trainer leaves beside an adapter."""
    text = manifest_text(1, {"model.base": digest, "model.weights": "pretrained"}, {})
    (adapter / "manifest.json").write_text(text)


def config_of(base: Path) -> dict:
    return json.loads((base / "config.json").read_text())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A base and an adapter, to be copied."""
    home = tmp_path_factory.mktemp("made")
    base = with_processor(write_base(home / "base", json.loads((tiny.small_vocabulary() / "config.json").read_text())))
    write_adapter(home / "adapter", base, LORA)
    manifest(home / "adapter", base_digest(RunSpec(model=ModelRef(id=str(base)), lora=LORA), config_of(base)))
    return home


@pytest.fixture(scope="module")
def known(made):
    """What does not depend on a fault: the model on meta, and its family."""
    values = config_of(made / "base")
    return {"reference": build_reference(values), "family": family_of(values)}


@pytest.fixture
def merging(made, tmp_path, tiny_spec):
    """Copies to be damaged."""
    for name in ("base", "adapter"):
        shutil.copytree(made / name, tmp_path / name)
    spec = replace(tiny_spec, model=replace(tiny_spec.model, id=str(tmp_path / "base"), weights="pretrained"))
    return Merge(spec, tmp_path / "base", tmp_path / "adapter", tmp_path / "merged")


@pytest.fixture(scope="module")
def tiny_spec():
    from vlcheck.config.load import load

    return replace(load(Path(tiny.__file__).parents[1] / "vlcheck" / "recipes" / "tiny.yaml"), lora=LORA)


def plan(made: Merge, known, *, other=False, base=None):
    into = merged_spec(made.spec, base)
    evidence = Evidence(into, known, offline=True)
    return plan_merge(made.spec, into, read_adapter(made.adapter), evidence, other=other)


# --------------------------------------------------------------------------- a sound merge


@pytest.fixture(scope="module")
def sound(made, tmp_path_factory, tiny_spec):
    """A merge with all that is verified: its folder, and what it says."""
    home = tmp_path_factory.mktemp("sound")
    spec = replace(tiny_spec, model=replace(tiny_spec.model, id=str(made / "base"), weights="pretrained"))
    out = home / "merged"
    return out, merge(spec, made / "adapter", out, options=OFFLINE), spec


def test_a_merge_is_verified_and_says_so(sound, made):
    """Files value by value, logits on pictures, names for serving; the report lies in the folder."""
    out, document, _ = sound
    logits = document["logits"]

    assert document == json.loads((out / REPORT).read_text())
    assert document["faults"] == document["notes"] == []
    assert len(document["changed"]) == 30
    assert document["untouched"] == 85
    assert document["units"] <= 0.5
    assert document["kept"] > 0.99
    assert logits["right"]
    assert logits["telling"]
    assert logits["gap"] <= logits["tolerance"] < logits["effect"] / 5
    assert document["serving"]["expected"] is True
    assert document["dtype"] == "bfloat16"
    assert sorted(document["files"]) == sorted(file.name for file in out.iterdir() if file.name != REPORT)


def test_the_merged_model_is_the_base_s_but_for_the_adapter(sound, made):
    """Files, keys, shapes, number types, index, processor and clip bounds; no lm_head beside what it is tied to."""
    out, document, _ = sound
    before, after = weights(made / "base"), weights(out)

    names = {file.name for file in (made / "base").iterdir()}
    assert {file.name for file in out.iterdir()} == names | {REPORT}
    assert {key: (t.shape, t.dtype) for key, t in before.items()} == {k: (t.shape, t.dtype) for k, t in after.items()}
    assert (out / INDEX).read_bytes() == (made / "base" / INDEX).read_bytes()
    assert not any("lm_head" in key for key in after)
    assert {key for key in before if not torch.equal(before[key], after[key])} == set(document["changed"])
    assert sum(key.endswith("output_max") for key in before) == tiny.VISION_WRAPPERS
    assert not draft_of(out).exists()


def test_a_folder_that_anybody_wrote_is_held_against_base_and_adapter(sound, made):
    """The base under the merged model's name is found out by its files; its logits are not asked then."""
    _, _, spec = sound
    document = check_merged(spec, made / "adapter", made / "base", options=OFFLINE)

    assert "the adapter is not in 30 of 30 tensors" in document["faults"][0]
    assert document["logits"] is None
    assert "that merged and unmerged answer alike was not verified" in " ".join(document["notes"])


# --------------------------------------------------------------------------- planted faults


def no_b(tensors):
    return {key: tensor for key, tensor in tensors.items() if "o_proj.linear.lora_B" not in key}


def as_spoilt(value):
    def spoil(tensors):
        key = next(iter(tensors))
        return tensors | {key: tensors[key].index_fill(0, torch.tensor(1), value)}

    return spoil


def cut_short(made: Merge) -> None:
    os.truncate(made.shard(), made.shard().stat().st_size - 100)


def into_wrong_shard(made: Merge) -> None:
    index = json.loads((made.base / INDEX).read_text())["weight_map"]
    key = next(iter(index))
    other = next(name for name in index.values() if name != index[key])
    rewrite(made.base / INDEX, weight_map=index | {key: other})


def pickled(folder: Path, suffix: str, name: str) -> None:
    for file in folder.glob(f"*{suffix}*"):
        file.unlink()
    torch.save({}, folder / name)


def packed(made: Merge) -> None:
    tensors = load_file(made.shard())
    save_file(tensors | {next(iter(tensors)): torch.ones(8, 1, dtype=torch.uint8)}, made.shard())


def of_another_shape(made: Merge) -> None:
    file, key = next(
        (f, k) for f in made.base.glob("*.safetensors") for k in load_file(f) if k.endswith("q_proj.weight")
    )
    tensors = load_file(file)
    save_file(tensors | {key: tensors[key][:, :-2].contiguous()}, file)


FAULTS = {
    "rank": (lambda m: m.settings(r=3), "tensors have another shape"),
    "a factor without the other": (lambda m: m.tensors(no_b), "adapter weights of the model are not in it"),
    "foreign keys": (
        lambda m: m.tensors(lambda t: {k.replace("language_model", "text_model"): v for k, v in t.items()}),
        "tensors have no place",
    ),
    "another family's keys": (
        lambda m: m.tensors(lambda t: {k.replace(".linear.", "."): v for k, v in t.items() if "vision" in k}),
        "does not fit this model",
    ),
    "targets that do not cover the tensors": (
        lambda m: m.settings(target_modules=["q_proj"], exclude_modules=".*vision.*"),
        "tensors have no place",
    ),
    "not a number in the adapter": (lambda m: m.tensors(as_spoilt(torch.nan)), "values that are not finite in 1"),
    "infinity in the adapter": (lambda m: m.tensors(as_spoilt(torch.inf)), "values that are not finite in 1"),
    "no settings": (lambda m: (m.adapter / SETTINGS).unlink(), "holds no adapter_config.json"),
    "another kind of adapter": (lambda m: m.settings(peft_type="LOHA"), "describes a LOHA adapter; allowed: LORA"),
    "a start that changes the base": (lambda m: m.settings(init_lora_weights="pissa"), "which changes the base"),
    "pickled adapter": (lambda m: pickled(m.adapter, "safetensors", PICKLE), "vlcheck never opens one"),
    "pickled base": (lambda m: pickled(m.base, "safetensors", "pytorch_model.bin"), "vlcheck never opens one"),
    "base in 4 bits": (
        lambda m: rewrite(m.base / "config.json", quantization_config={"quant_method": "bitsandbytes"}),
        "a base that is stored quantised (bitsandbytes); a merge needs it in 16 bits",
    ),
    "packed weights": (packed, "holds packed weights"),
    "a base of another name": (
        lambda m: m.settings(base_model_name_or_path="google/gemma-4-31B-it"),
        "names the base google/gemma-4-31B-it, and the merge is into",
    ),
    "other weights": (lambda m: manifest(m.adapter, "0" * 64), "was trained on a base whose config or weights are not"),
    "a base of other shapes": (of_another_shape, "does not hold this model's weights: 1 tensors have another shape"),
    "truncated shard": (cut_short, "is cut short"),
    "a shard that is not there": (lambda m: m.shard().unlink(), "which is no file of its folder"),
    "an index that is wrong": (into_wrong_shard, "does not say that"),
    "a base without a tensor": (
        lambda m: save_file(dict(list(load_file(m.shard()).items())[1:]), m.shard()),
        "weights of the model are not in it",
    ),
    "no base": (lambda m: shutil.rmtree(m.base), "is no local folder with a config.json"),
    "no adapter": (lambda m: shutil.rmtree(m.adapter), "is no folder"),
    "no weights": (lambda m: [f.unlink() for f in m.base.glob("model*")], "holds neither model.safetensors nor"),
}  # fmt: skip


LIKE_ANOTHER = ("infinity in the adapter", "another family's keys")
"""Faults that are found where another is."""


@pytest.mark.parametrize("fault", [pytest.param(f, marks=[pytest.mark.slow] * (f in LIKE_ANOTHER)) for f in FAULTS])
def test_a_planted_fault_is_refused_in_one_line(merging, known, fault):
    """Before anything is written."""
    plant, complaint = FAULTS[fault]
    plant(merging)
    with pytest.raises((ConfigError, Unavailable)) as refused:
        plan(merging, known)

    assert complaint in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert not merging.out.exists()


def test_a_run_without_a_base_names_the_option(tiny_spec):
    """Random weights are nowhere on a disk."""
    with pytest.raises(ConfigError, match=r"model\.weights is random: there is no base to merge into; .* with --base"):
        merged_spec(tiny_spec, None)


@pytest.mark.slow
def test_a_number_that_is_none_in_the_base_ends_the_merge_with_nothing_left(merging):
    """It is met while the shards are written."""
    tensors = load_file(merging.shard())
    key = next(key for key, tensor in tensors.items() if tensor.is_floating_point() and tensor.ndim == 2)
    save_file(
        tensors | {key: tensors[key].index_fill(0, torch.tensor(0), torch.nan)}, merging.shard(), {"format": "pt"}
    )
    with pytest.raises(ConfigError, match=r"not a number|not finite"):
        merge(merging.spec, merging.adapter, merging.out, logits=False, other_base=True, options=OFFLINE)
    assert sorted(entry.name for entry in merging.out.parent.iterdir()) == ["adapter", "base"]


# --------------------------------------------------------------------------- outside the clamps


def unwrap(merging: Merge) -> None:
    """As PEFT saves an adapter of a model whose wrappers were replaced by what they wrap."""
    merging.tensors(lambda t: {key.replace(".linear.lora", ".lora"): value for key, value in t.items()})
    names = {key.partition(".lora_")[0].rpartition(".")[2] for key in load_file(merging.adapter / WEIGHTS)}
    merging.settings(target_modules=sorted(names))


def test_a_delta_outside_the_clamps_is_moved_inside_and_that_is_told(merging, known):
    """An adapter that was trained on a model without its wrappers fits the inner layers, and clamps act on it.

    That the base is known to be another, by name and by digest, is told beside it where the user has asked for it.
    """
    unwrap(merging)
    merging.settings(base_model_name_or_path="google/gemma-4-31B-it")
    manifest(merging.adapter, "0" * 64)
    found = plan(merging, known, other=True)

    assert len(found.outside) == tiny.VISION_WRAPPERS
    assert sum(".linear.weight" in key for key in found.changes) == tiny.VISION_WRAPPERS
    by_name, by_digest, clamps = found.notes
    assert "names the base google/gemma-4-31B-it" in by_name
    assert "was trained on a base whose config or weights are not those" in by_digest
    assert "outside their clamps" in clamps
    assert "differ where a clamp acts" in clamps


@pytest.mark.slow
def test_logits_that_a_clamp_moves_are_told_and_do_not_end_the_merge(merging):
    """With bounds that act, the model that was trained without them and the merged one must differ."""
    for file in merging.base.glob("*.safetensors"):
        tensors = load_file(file)
        tight = {key: tensor.sign() * 0.05 for key, tensor in tensors.items() if key.endswith(("_min", "_max"))}
        save_file(tensors | tight, file, {"format": "pt"})
    unwrap(merging)
    document = merge(merging.spec, merging.adapter, merging.out, other_base=True, options=OFFLINE)

    assert document["logits"]["right"] is False
    assert any("merged and unmerged differ, as they must where a clamp acts" in note for note in document["notes"])
    assert merging.out.exists()


# --------------------------------------------------------------------------- the command


def config(folder: Path, merging: Merge) -> Path:
    text = (Path(tiny.__file__).parents[1] / "vlcheck" / "recipes" / "tiny.yaml").read_text()
    file = folder / "run.yaml"
    file.write_text(text.replace("id: vlcheck/tiny-gemma4", f"id: {merging.base}").replace("weights: random", ""))
    return file


def test_what_a_merge_prints(sound):
    """One line a fact: what changed, what was verified, whose names these are, what comes next."""
    out, document, _ = sound
    lines = render_merge(document).splitlines()

    assert lines[0].endswith("30 tensors change, 85 stay; 4 files, 0.0007 GiB, bfloat16")
    assert lines[1].startswith(
        "files: base plus delta in every changed tensor, off by 0.5 units in the last place at most"
    )
    assert lines[2].startswith("logits: merged and unmerged 0.0")
    assert lines[2].endswith("% of 64 positions")
    assert lines[3] == (
        "vLLM: the names are those that it expects of Gemma4ForConditionalGeneration (01bae2190e1c); it serves "
        "adapters unmerged too"
    )
    assert lines[4:] == [f"written to {out}; next: vlcheck evaluate CONFIG --merged {out}"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--adapter", "adapter", "--out", "base"), "base:1:1: is not empty, it holds 'chat_template.jinja'; a merge"),
        (("--adapter", "nowhere", "--out", "merged"), "nowhere:1:1: is no folder"),
        (("--adapter", "adapter", "--out", "merged", "--base", "adapter"), "is no local folder with a config.json"),
    ],
)
def test_the_command_refuses_in_one_line(vlcheck, merging, tmp_path, arguments, complaint):
    """Exit code 2, and nothing at the output."""
    code, out, err = vlcheck("merge", config(tmp_path, merging), *arguments, "--offline")

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert complaint in err
    assert not merging.out.exists()


@pytest.mark.slow
def test_the_merged_model_is_evaluated_in_the_base_s_place(vlcheck, merging, tmp_path):
    """Answers of the merged folder, in a folder of their own; an adapter beside it is refused."""
    file, merged = config(tmp_path, merging), "merged"
    code, out, err = vlcheck("merge", file, "--adapter", "adapter", "--out", merged, "--no-logits", "--offline")
    assert (code, err) == (0, "")
    assert "note: the logits were not compared" in out
    code, out, err = vlcheck("evaluate", file, "--merged", merged, "--limit", "2", "--offline")
    assert (code, err) == (0, "")
    assert out.startswith(f"{merged} merged, split test\n")
    document = json.loads((tmp_path / "tiny-shapes" / "evaluation-merged" / "evaluation.json").read_text())
    assert document["settings"]["merged"]
    code, _, err = vlcheck("evaluate", file, "--merged", merged, "--adapter", "adapter", "--offline")
    assert (code, err.count("\n")) == (2, 1)
    code, _, err = vlcheck("evaluate", file, "--merged", "adapter", "--offline")
    assert (code, err) == (2, "error: adapter:1:1: holds no config.json; name the folder that vlcheck merge wrote\n")


@pytest.mark.slow
def test_a_merge_that_is_checked_and_found_wanting_exits_1(vlcheck, made, merging, tmp_path):
    """`--check` holds a folder that anybody wrote against base plus delta, and writes nothing."""
    file = config(tmp_path, merging)
    code, out, _ = vlcheck("merge", file, "--adapter", "adapter", "--out", "base", "--check", "--offline")

    assert code == 1
    assert "fault: the adapter is not in 30 of 30 tensors" in out
    assert out.splitlines()[-1] == "base: not base plus adapter"


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["model-00002-of", "config.json", REPORT])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_is_ended_leaves_nothing_that_looks_whole(merging, tmp_path, moment, number):
    """SIGTERM and SIGKILL when a file is opened: no output, and after SIGTERM no draft; then the merge goes through."""
    file = config(tmp_path, merging)
    command = ["merge", file, "--adapter", merging.adapter, "--out", merging.out, "--no-logits", "--offline"]
    child = os.fork()
    if not child:
        ended_when_it_opens(moment, number, command)
    status = os.waitpid(child, 0)[1]

    assert (os.WTERMSIG(status) if number == signal.SIGKILL else os.WEXITSTATUS(status)) == (
        number if number == signal.SIGKILL else 143
    )
    assert not merging.out.exists()
    assert draft_of(merging.out).exists() == (number == signal.SIGKILL)
    assert merge(merging.spec, merging.adapter, merging.out, logits=False, options=OFFLINE)["faults"] == []
    assert not draft_of(merging.out).exists()


def ended_when_it_opens(part: str, number: int, command: list) -> None:
    """In a child: run a command, and end it when it opens a file of the draft."""
    from vlcheck.cli.app import main

    torch.set_num_threads(1)

    def watch(event: str, arguments: tuple) -> None:
        if event == "open" and ".vlcheck-merge" in str(arguments[0]) and part in Path(str(arguments[0])).name:
            os.kill(os.getpid(), number)

    sys.addaudithook(watch)
    sys.argv = ["vlcheck", *map(str, command)]
    try:
        main()
    except SystemExit as left:
        os._exit(left.code)
    os._exit(99)


# --------------------------------------------------------------------------- against PEFT, other families, memory


CASES = {
    "rslora and patterns": (
        tiny.gemma4, {"use_rslora": True, "alpha_pattern": {"q_proj": 32}, "rank_pattern": {"o_proj": 2}}),
    "dora": (tiny.gemma4, {"use_dora": True}),
    "biases and a whole projector": (tiny.gemma4, {"bias": "all", "modules_to_save": ("embed_vision",)}),
    "tied embeddings": (
        tiny.gemma4, {"modules_to_save": ("embed_tokens", "lm_head"), "ensure_weight_tying": True}),
    "experts": (
        lambda: tiny.gemma4(experts=True), {"target_parameters": ("experts.gate_up_proj", "experts.down_proj")}),
    "gemma 3": (tiny.gemma3, {}),
    "qwen 2.5": (lambda: tiny.shrunken("Qwen/Qwen2.5-VL-7B-Instruct"), {}),
    "llava": (tiny.llava_deep, {}),
    "smolvlm": (lambda: tiny.shrunken("HuggingFaceTB/SmolVLM2-2.2B-Instruct"), {"modules_to_save": ("lm_head",)}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_files_are_those_of_peft_s_merge_in_fp32(tmp_path, tiny_spec, case):
    """Another's arithmetic, in full precision and rounded once: the same values but for ties of rounding."""
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    values, settings = CASES[case]
    base = write_base(tmp_path / "base", values())
    adapter = write_adapter(tmp_path / "adapter", base, replace(LORA, **settings))
    spec = replace(tiny_spec, model=replace(tiny_spec.model, id=str(base), weights="pretrained"))
    merge(spec, adapter, tmp_path / "merged", logits=False, options=OFFLINE)
    whole = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    PeftModel.from_pretrained(whole, str(adapter)).merge_and_unload().save_pretrained(tmp_path / "peft")
    ours, theirs = weights(tmp_path / "merged"), weights(tmp_path / "peft")

    assert ours.keys() == theirs.keys()
    for key, tensor in theirs.items():
        rounded = tensor.to(ours[key].dtype)
        assert (rounded != ours[key]).float().mean() < 1e-3, key
        torch.testing.assert_close(ours[key], rounded, rtol=2**-6, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["tiny", "E4B"])
def test_host_memory_stays_below_the_largest_shard_and_2_gib(tmp_path, size):
    """Measured in a process of its own: what the merge adds to the most that the process has held."""
    values = tiny.gemma4() if size == "tiny" else dict(catalogue.lookup("google/gemma-4-E4B-it").config)
    base = write_large_base(tmp_path / "base", values, 2**16 if size == "tiny" else 3 * 2**30)
    write_adapter(tmp_path / "adapter", base, replace(LORA, r=4 if size == "tiny" else 64), std=0.02)
    script = (
        "import json, resource, sys; from pathlib import Path; from vlcheck.evaluation.merge import merge; "
        "from vlcheck.spec import Lora, ModelRef, RunSpec; base, adapter, out = map(Path, sys.argv[1:]); "
        "spec = RunSpec(model=ModelRef(id=str(base)), lora=Lora(target_modules='all-linear')); "
        "import transformers, peft; held = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024; "
        "before = held(); document = merge(spec, adapter, out, logits=False); "
        "print(json.dumps([document['faults'], before, held()]))"
    )
    command = [sys.executable, "-c", script, str(base), str(tmp_path / "adapter"), str(tmp_path / "merged")]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    faults, before, after = json.loads(ended.stdout.splitlines()[-1])
    largest = max(file.stat().st_size for file in base.glob("*.safetensors"))
    print(f"{size}: {before / 2**30:.2f} GiB before, {after / 2**30:.2f} after, shard {largest / 2**30:.2f}")
    shutil.rmtree(tmp_path / "base")
    shutil.rmtree(tmp_path / "merged")

    assert faults == []
    assert after - before < largest + 2 * 2**30
    assert after - before < 2 * 2**30  # no shard is held: the adapter, and pieces of a tensor


@pytest.mark.slow
def test_experts_that_are_stored_turned_are_refused_by_name(tmp_path, tiny_spec):
    """Qwen3-VL's experts lie transposed in the files."""
    base = write_base(tmp_path / "base", tiny.shrunken("Qwen/Qwen3-VL-30B-A3B-Instruct"))
    lora = replace(LORA, target_modules=None, target_parameters=("experts.down_proj",))
    adapter = write_adapter(tmp_path / "adapter", base, lora)
    spec = replace(tiny_spec, model=replace(tiny_spec.model, id=str(base), weights="pretrained"))
    with pytest.raises(ConfigError, match=r"experts\.down_proj is stored turned, or divided among several tensors"):
        merge(spec, adapter, tmp_path / "merged", logits=False, options=OFFLINE)
