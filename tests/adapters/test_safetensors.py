"""An adapter folder from a stranger: a description, or one clear refusal, and never anything else."""

from __future__ import annotations

import json
import math
import os
import pickle
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tests import tiny
from tests.saved_adapters import judge, save
from vlcheck.adapters.safetensors import BITS, CHUNK_BYTES, Extent, read_extents, read_header
from vlcheck.adapters.saved import INDEX, PICKLE, SETTINGS, WEIGHTS, read_adapter
from vlcheck.finding import Verdict
from vlcheck.spec import ConfigError

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def packed(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with this header, sound or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def refused(folder) -> str:
    """The one problem with a folder."""
    with pytest.raises(ConfigError) as caught:
        read_adapter(folder)
    (problem,) = caught.value.problems
    assert str(folder) in problem.where.file
    assert len(problem.message) < 400
    return problem.message


HOSTILE = {
    "nothing": (b"", "is cut short: it has 0 bytes"),
    "seven bytes": (b"\0" * 7, "is cut short: it has 7 bytes"),
    "length alone": (packed({}, length=2)[:8], "is cut short, or no safetensors file: its header would have 2 bytes"),
    "length of all bits": (b"\xff" * 64, "its header would have 18446744073709551615 bytes of 64"),
    "length zero": (b"\0" * 8, "its header is no JSON object"),
    "text": (b"not a tensor file", "is cut short, or no safetensors file"),
    "zip, as of torch.save": (b"PK\x03\x04" + b"\0" * 60, "is cut short, or no safetensors file"),
    "pickle under another name": (pickle.dumps({}) + b"\0" * 90, "no safetensors file"),
    "space before": (packed(b" {}"), "its header is no JSON object"),
    "list": (packed([]), "its header is no JSON object"),
    "cut JSON": (packed(b'{"a":'), "holds no sound JSON"),
    "deep JSON": (packed(b'{"a":' + b"[" * 200_000), "nested too deeply"),
    "not UTF-8": (packed(b'{"\xff": 1}'), "holds JSON that is not UTF-8, at byte 2"),
    "NaN": (packed(b'{"a": NaN}'), "NaN is no JSON number"),
    "number of 5,000 digits": (packed(b'{"a": ' + b"9" * 5000 + b"}"), "holds no sound JSON"),
    "key twice": (packed(b'{"a": 1, "a": 2}'), "key 'a' occurs twice"),
    "long key twice": (packed(b'{"%b": 1, "%b": 2}' % (b"a" * 9000, b"a" * 9000)), "holds no sound JSON: key 'aaa"),
    "metadata of numbers": (packed({"__metadata__": {"a": 1}}), "__metadata__ holds other things than text"),
    "entry a number": (packed({"a": 1}), "tensor a lacks a sound dtype, shape or data_offsets"),
    "no shape": (packed({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, b"\0" * 8), "tensor a lacks"),
    "shape a number": (packed({"a": {**F32, "shape": 2}}, b"\0" * 8), "tensor a lacks"),
    "shape below zero": (packed({"a": {**F32, "shape": [-2]}}, b"\0" * 8), "tensor a lacks"),
    "shape of truths": (packed({"a": {**F32, "shape": [True, 2]}}, b"\0" * 8), "tensor a lacks"),
    "shape of fractions": (packed({"a": {**F32, "shape": [2.0]}}, b"\0" * 8), "tensor a lacks"),
    "forty dimensions": (packed({"a": {**F32, "shape": [1] * 40}}, b"\0" * 8), "tensor a lacks"),
    "one offset": (packed({"a": {**F32, "data_offsets": [0]}}, b"\0" * 8), "tensor a lacks"),
    "offset past 64 bits": (packed({"a": {**F32, "data_offsets": [2**64, 2**64 + 8]}}, b"\0" * 8), "tensor a lacks"),
    "unknown dtype": (packed({"a": {**F32, "dtype": "F31"}}, b"\0" * 8), "tensor a has the unknown dtype F31"),
    "offsets reversed": (packed({"a": {**F32, "data_offsets": [8, 0]}}, b"\0" * 8), "has -8 bytes, its shape takes 8"),
    "shape larger": (packed({"a": {**F32, "shape": [3]}}, b"\0" * 8), "tensor a has 8 bytes, its shape takes 12"),
    "shape of 2^120": (packed({"a": {**F32, "shape": [2**60, 2**60]}}, b"\0" * 8), "its shape takes 5.317e+36"),
    "half a byte": (packed({"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 1]}}, b"\0"), "takes 1.5"),
    "data cut": (packed({"a": F32}, b"\0" * 7), "is cut short: its header describes"),
    "data longer": (packed({"a": F32}, b"\0" * 9), "has bytes that belong to no tensor"),
    "overlap": (packed({"a": F32, "b": {**F32, "data_offsets": [4, 12]}}, b"\0" * 12), "tensor b overlaps another"),
    "same place": (packed({"a": F32, "b": F32}, b"\0" * 8), "overlaps another"),
    "gap": (packed({"a": F32, "b": {**F32, "data_offsets": [12, 20]}}, b"\0" * 20), "tensor b leaves a gap before it"),
    "long name": (packed({"a" * 5000: F32}, b"\0" * 8), "a tensor has a name of 5000 characters"),
    "60,000 tensors": (packed({str(n): 0 for n in range(60_000)}), "holds 60000 tensors; an adapter of at most 30000"),
    "header of 17 MiB": (packed(b"{" + b" " * (17 << 20) + b"}"), "has a header of 17825794 bytes; at most 16777216"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_damaged_file_is_refused_in_one_line(name, tmp_path):
    """Each fault has its message, which names the file."""
    content, complaint = HOSTILE[name]
    (tmp_path / WEIGHTS).write_bytes(content)

    assert complaint in refused(tmp_path)


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({}, "holds no adapter_model.safetensors"),
        ({"config.json": "{}"}, "it looks like a model's folder"),
        ({PICKLE: "cos\nsystem\n(S'touch owned'\ntR."}, "is a pickle, which can run code"),
        ({WEIGHTS: "", SETTINGS: "{"}, "holds no sound JSON"),
        ({WEIGHTS: "", SETTINGS: "[]"}, "is no JSON object"),
        ({WEIGHTS: "", SETTINGS: "{}"}, "has no sound peft_type"),
        ({WEIGHTS: "", SETTINGS: '{"peft_type": 3}'}, "has no sound peft_type"),
        ({WEIGHTS: "", SETTINGS: '{"peft_type": "LORA", "base_model_name_or_path": []}'}, "has no sound peft_type"),
        ({WEIGHTS: "", SETTINGS: '{"peft_type": "LORA", "r": 0}'}, "has an unusable r: "),
        ({WEIGHTS: "", SETTINGS: '{"peft_type": "LORA", "r": "8"}'}, "has an unusable r: "),
        ({WEIGHTS: "", SETTINGS: '{"peft_type": "LORA", "lora_alpha": NaN}'}, "NaN is no JSON number"),
        ({WEIGHTS: "", SETTINGS: '{"peft_type": "LORA", "rank_pattern": {"a": {}}}'}, "has an unusable rank_pattern"),
        ({WEIGHTS: "", SETTINGS: f'{{"peft_type": "{"A" * (17 << 20)}"}}'}, "is larger than 16777216 bytes"),
        ({INDEX: "{}"}, "it has no weight_map"),
        ({INDEX: '{"weight_map": []}'}, "it has no weight_map"),
        ({INDEX: '{"weight_map": {"a": "../x.safetensors"}}'}, "names ../x.safetensors, which is no safetensors"),
        ({INDEX: '{"weight_map": {"a": "/etc/passwd"}}'}, "names /etc/passwd, which is no safetensors file of"),
        ({INDEX: '{"weight_map": {"a": "..\\\\x.safetensors"}}'}, "which is no safetensors file of its own folder"),
        ({INDEX: '{"weight_map": {"a": "x.bin"}}'}, "names x.bin, which is no safetensors file of its own folder"),
        ({INDEX: '{"weight_map": {"a": 7}}'}, "names 7, which is no safetensors file of its own folder"),
        ({INDEX: '{"weight_map": {"a": "\\u0000.safetensors"}}'}, "which is not here"),
        ({INDEX: '{"weight_map": {"a": "gone.safetensors"}}'}, "names gone.safetensors, which is not here"),
    ],
)  # fmt: skip
def test_unusable_folder_is_refused_in_one_line(files, complaint, tmp_path):
    """Nothing outside the folder is opened, and no pickle is."""
    for name, content in files.items():
        (tmp_path / name).write_text(content)

    assert complaint in refused(tmp_path)


def test_index_must_say_what_its_files_hold(tmp_path):
    """A tensor that is twice, elsewhere or nowhere is named."""
    for name in ("a", "b"):
        save_file({"x": torch.zeros(1), name: torch.zeros(1)}, tmp_path / f"{name}.safetensors")

    def index(**weight_map: str) -> str:
        files = {key: f"{name}.safetensors" for key, name in weight_map.items()}
        (tmp_path / INDEX).write_text(json.dumps({"weight_map": files}))
        return refused(tmp_path)

    assert "does not say that tensor x is in b.safetensors, and it is there" in index(x="a", a="a", b="b")
    assert "does not say that tensor a is in a.safetensors" in index(x="a")
    assert "names tensor y and 0 more that are in none of its files" in index(x="a", a="a", y="a")


def test_only_regular_files_are_opened(tmp_path):
    """A pipe would wait for its writer, a link in an index could lead anywhere; a link to the file itself is fine."""
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / WEIGHTS)
    assert refused(tmp_path / "pipe") == "is no regular file"

    (tmp_path / "folder" / WEIGHTS).mkdir(parents=True)
    assert refused(tmp_path / "folder") == "is no regular file"

    save_file({"a": torch.zeros(1)}, tmp_path / "blob")
    for name in ("index", "cache", "dangling"):
        (tmp_path / name).mkdir()
    (tmp_path / "index" / "s.safetensors").symlink_to(tmp_path / "blob")
    (tmp_path / "index" / INDEX).write_text('{"weight_map": {"a": "s.safetensors"}}')
    assert "is a symbolic link" in refused(tmp_path / "index")

    (tmp_path / "dangling" / WEIGHTS).symlink_to(tmp_path / "gone")
    assert refused(tmp_path / "dangling") == "cannot be read: No such file or directory"

    (tmp_path / "cache" / WEIGHTS).symlink_to(tmp_path / "blob")  # as in the Hugging Face cache
    assert [tensor.name for tensor in read_adapter(tmp_path / "cache").tensors] == ["a"]


def test_folder_above_is_answered_with_the_folder_meant(tmp_path):
    """Trainers save adapters in a folder for each step."""
    (tmp_path / "checkpoint-50").mkdir()
    save_file({"a": torch.zeros(1)}, tmp_path / "checkpoint-50" / WEIGHTS)

    assert refused(tmp_path).endswith("; checkpoint-50 in it does")
    assert "is no folder" in refused(tmp_path / "checkpoint-50" / WEIGHTS)


# --------------------------------------------------------------------------- every byte


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A sound adapter that lacks most tensors, and its bytes."""
    saved = save(tiny.gemma3(), tmp_path_factory.mktemp("small") / "adapter")
    saved.write({key: torch.ones(4, 2) for key in saved.keys()[:3]})
    return saved, (saved.folder / WEIGHTS).read_bytes()


def judged_or_refused(saved) -> None:
    """A report in which every rule ran, or one refusal."""
    try:
        report = judge(saved)
    except ConfigError:
        return
    failed = report.with_verdict(Verdict.ERROR)
    assert not failed, [outcome.reason for outcome in failed]


def test_file_cut_anywhere_is_refused(small):
    """There is no length at which a part of a file passes for the whole."""
    saved, content = small
    judged_or_refused(saved)
    for length in range(len(content)):
        (saved.folder / WEIGHTS).write_bytes(content[:length])
        with pytest.raises(ConfigError, match="cut short"):
            read_header(saved.folder / WEIGHTS)
    assert len(content) > 400


@settings(max_examples=100)
@given(data=st.data())
def test_changed_bytes_are_judged_or_refused(small, data):
    """Whatever one to four bytes become."""
    saved, content = small
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (saved.folder / WEIGHTS).write_bytes(changed)
    judged_or_refused(saved)


@settings(max_examples=60)
@given(content=st.binary(max_size=200))
def test_random_bytes_are_refused(small, content):
    """As they are, and behind a length that fits them."""
    saved, _ = small
    for written in (content, packed(content), packed(b"{" + content + b"}")):
        (saved.folder / WEIGHTS).write_bytes(written)
        judged_or_refused(saved)


NAMES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["a\\g<0>.lora_A.weight", "lora_", ".lora_A.", "lora_A..lora_B", "..", "default", "\ud800.lora_A"]),
    st.builds(
        "{}{}.{}{}".format,
        st.sampled_from(["", "base_model.model.", "base_model.model.base_model.model.", "\n"]),
        st.sampled_from(["model.vision_tower.encoder.layers.0.self_attn.q_proj", "lm_head", "x" * 900]),
        st.sampled_from(["lora_A", "lora_B", "lora_magnitude_vector", "lora_embedding_A", "base_layer"]),
        st.sampled_from(["", ".weight", ".default.weight", "\\1"]),
    ),
)
SHAPES = st.one_of(st.lists(st.integers(0, 4), max_size=4), st.just([0, 2**62, 2**62]))


@settings(max_examples=settings.default.max_examples // 2)
@given(entries=st.dictionaries(NAMES, st.tuples(st.sampled_from(sorted(BITS)), SHAPES), max_size=6), seed=st.randoms())
def test_sound_files_of_strange_tensors_are_judged(small, entries, seed):
    """Any names, types, shapes and values that a sound file can hold."""
    saved, _ = small
    header, at = {}, 0
    for name, (dtype, shape) in entries.items():
        size = -(-math.prod(shape) * BITS[dtype] // 8)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    (saved.folder / WEIGHTS).write_bytes(packed(header, seed.randbytes(at)))
    judged_or_refused(saved)


# --------------------------------------------------------------------------- what the bytes hold


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_extents_are_least_and_greatest(dtype, tmp_path):
    """Chunk for chunk, whatever the type; NaN and infinity in the last chunk count."""
    size = CHUNK_BYTES // dtype.itemsize + 3
    ramp = (torch.arange(size) % 8 - 2).to(dtype)
    nan, endless = ramp.float().clone(), ramp.float().clone()
    nan[-1], endless[-2] = math.nan, math.inf
    tensors = {"ramp": ramp, "nan": nan.to(dtype), "endless": endless.to(dtype), "zero": torch.zeros(size, dtype=dtype)}
    save_file({**tensors, "none": torch.empty(0, 3), "whole": torch.ones(4, dtype=torch.int64)}, tmp_path / "file")
    extents = read_extents(read_header(tmp_path / "file"))

    assert extents["ramp"] == Extent(-2.0, 5.0)
    assert extents["endless"] == Extent(-2.0, math.inf)
    assert {name: (e.finite, e.zero) for name, e in extents.items()} == {
        "ramp": (True, False), "nan": (False, False), "endless": (False, False), "zero": (True, True),
    }  # fmt: skip


def test_headers_are_read_without_tensors(tmp_path):
    """A file of 8 GiB without a byte on disk is described at once."""
    size = 2**33
    with (tmp_path / WEIGHTS).open("wb") as file:
        file.write(packed({"a": {"dtype": "BF16", "shape": [2**32], "data_offsets": [0, size]}}))
        file.truncate(file.tell() + size)
    (tensor,) = read_adapter(tmp_path).tensors
    assert (tensor.bytes, tensor.numel, tensor.shape) == (size, 2**32, (2**32,))


def test_file_that_shrinks_while_it_is_read_is_refused(tmp_path):
    """What the header said is checked again by reading."""
    save_file({"a": torch.ones(CHUNK_BYTES)}, tmp_path / "file")
    tensors = read_header(tmp_path / "file")
    with (tmp_path / "file").open("r+b") as file:
        file.truncate(CHUNK_BYTES + 1000)
    with pytest.raises(ConfigError, match="changed while it was read"):
        read_extents(tensors)
