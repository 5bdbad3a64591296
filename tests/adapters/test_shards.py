"""A merged shard is its base's but for what changes, and whether the adapter is in it is told by the files alone."""

from __future__ import annotations

import hashlib

import pytest
import torch
from safetensors.torch import load_file, save_file

from vlcheck.adapters import rows
from vlcheck.adapters.changes import LowRank, Whole
from vlcheck.adapters.merged import compare
from vlcheck.adapters.safetensors import read_header
from vlcheck.adapters.shards import fault_of, write_shard
from vlcheck.spec import ConfigError


@pytest.fixture
def base(tmp_path):
    """A file with one tensor to change, and others of every kind."""
    torch.manual_seed(0)
    tensors = {
        "query": (torch.randn(40, 24) * 0.02).bfloat16(),
        "norm": torch.randn(24),
        "input_max": torch.tensor(float("inf")),
        "words": torch.randn(12, 24).half(),
        "ids": torch.arange(7),
        "nothing": torch.empty(0, 4),
    }
    save_file(tensors, tmp_path / "base.safetensors", metadata={"format": "pt", "by": "somebody"})
    return tmp_path / "base.safetensors"


def delta(scale=0.05):
    torch.manual_seed(1)
    return LowRank(torch.randn(1, 40, 3), torch.randn(1, 3, 24), scale)


@pytest.fixture(params=[100, 2**24], ids=["in pieces", "at once"])
def piece(request, monkeypatch):
    """Bytes of a tensor that are looked at together."""
    for function in (rows.rows_of, rows.bytes_of):
        monkeypatch.setitem(function.__kwdefaults__, "piece_bytes", request.param)


def test_all_is_the_base_s_but_for_what_changes(base, tmp_path, piece):
    """Header and layout byte for byte; the changed tensor is base plus delta in fp32, rounded once."""
    changes = {"query": delta(), "words": Whole(torch.full((12, 24), 0.1))}
    out, told = tmp_path / "out.safetensors", []
    digest = write_shard(base, out, changes, told.append)
    before, after = load_file(base), load_file(out)

    assert read_header(out) == tuple(
        tensor.__class__(**{**fields(tensor), "file": out}) for tensor in read_header(base)
    )
    assert out.read_bytes()[: read_header(base)[0].start] == base.read_bytes()[: read_header(base)[0].start]
    assert digest == hashlib.sha256(out.read_bytes()).hexdigest()
    assert sum(told) == base.stat().st_size == out.stat().st_size
    wanted = before["query"].float() + 0.05 * changes["query"].left[0] @ changes["query"].right[0]
    torch.testing.assert_close(after["query"], wanted.bfloat16(), rtol=2**-8, atol=0)
    assert (after["query"] == wanted.bfloat16()).float().mean() > 0.999
    assert torch.equal(after["words"], torch.full((12, 24), 0.1).half())
    assert all(torch.equal(before[key], after[key]) for key in before.keys() - changes.keys())


def fields(tensor):
    return {name: getattr(tensor, name) for name in tensor.__slots__}


@pytest.mark.parametrize(
    ("change", "changes", "complaint"),
    [
        (lambda t: t["norm"].__setitem__(3, torch.nan), {}, "holds values that are not a number in norm"),
        (
            lambda t: t["query"][0].fill_(torch.nan),
            {"query": delta()},
            "values that are not finite in query, which would",
        ),
        (
            lambda t: t["query"][0].fill_(torch.inf),
            {"query": delta()},
            "values that are not finite in query, which would",
        ),
        (
            lambda t: None,
            {"words": Whole(torch.full((12, 24), 1e6))},
            "words and what the adapter adds .* large for F16",
        ),
    ],
)
def test_values_that_are_no_numbers_end_a_merge(base, tmp_path, change, changes, complaint):
    """A NaN anywhere in the base, an infinity where something is added, a sum that overflows."""
    tensors = load_file(base)
    change(tensors)
    save_file(tensors, base)
    with pytest.raises(ConfigError, match=complaint) as refused:
        write_shard(base, tmp_path / "out.safetensors", changes)
    assert len(str(refused.value).splitlines()) == 1


def test_what_cannot_take_a_change():
    """A tensor of another size, and one that is stored in eight bits."""
    from vlcheck.adapters.safetensors import StoredTensor

    of = {"file": None, "start": 0, "bytes": 0}
    assert "960 values in the base, and the adapter changes 960" not in fault_of(
        StoredTensor("query", "BF16", (40, 24), **of), delta()
    )
    assert "has 920 values in the base, and the adapter changes 960" in fault_of(
        StoredTensor("query", "BF16", (40, 23), **of), delta()
    )
    assert "is stored as F8_E4M3" in fault_of(StoredTensor("query", "F8_E4M3", (40, 24), **of), delta())


# --------------------------------------------------------------------------- is the adapter in the file


@pytest.fixture
def merged(base, tmp_path):
    out = tmp_path / "merged.safetensors"
    write_shard(base, out, {"query": delta()})
    return out


def damaged(merged, change):
    """The merged file with other tensors."""
    tensors = load_file(merged)
    change(tensors)
    save_file(tensors, merged)
    return merged


def test_a_merge_is_recognised(base, merged, piece):
    """Every value within half a unit in the last place, all of the delta but rounding, and the rest untouched."""
    found = compare([base], [merged], {"query": delta()})
    (target,) = found.targets

    assert found.faults == ()
    assert found.untouched == 5
    assert (target.key, target.values, target.off) == ("query", 960, 0)
    assert target.units <= 0.5
    assert found.kept == target.kept == target.possible == pytest.approx(1, abs=0.01)


def test_another_s_merge_that_rounds_twice_is_recognised(base, merged):
    """A delta that was rounded to bf16 before it was added: off by more, and still the adapter."""
    change = delta()
    rounded = (0.05 * change.left[0] @ change.right[0]).bfloat16()
    damaged(merged, lambda t: t.update(query=load_file(base)["query"] + rounded))

    assert compare([base], [merged], {"query": change}).faults == ()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t, b: t.update(query=b["query"]), "the adapter is not in 1 of 1 tensors that it changes: query is"),
        (lambda t, b: t.update(query=(2 * t["query"] - b["query"])), "1 of 1 changed tensors are not base plus delta"),
        (lambda t, b: t["query"][7].copy_(b["query"][7]), "query is off in 24 of 960 values"),
        (lambda t, b: t["query"][0, 0].fill_(torch.nan), "query is off in 1 of 960 values, by inf units"),
        (lambda t, b: t["norm"].add_(1), "1 tensors that the adapter leaves alone are not the base's: norm"),
        (lambda t, b: t.pop("norm"), "1 tensors of the base are not in it: norm"),
        (lambda t, b: t.update(more=torch.ones(2)), "1 tensors are not the base's: more"),
        (lambda t, b: t.update(query=t["query"].float()), "1 tensors have another shape or number type"),
        (lambda t, b: t.update(query=t["query"].T.contiguous()), "1 tensors have another shape or number type"),
    ],
)
def test_a_merge_that_is_none_is_told(base, merged, change, complaint):
    """The base, a delta of twice the size, one row without it, and what else a file can hold."""
    damaged(merged, lambda tensors: change(tensors, load_file(base)))
    (fault,) = compare([base], [merged], {"query": delta()}).faults

    assert complaint in fault


def test_a_delta_below_the_last_place_is_lost_and_that_is_told(base, tmp_path):
    """Rounding takes what is smaller than half a unit; a file that holds the base is then right, and keeps nothing."""
    tiny = delta(1e-7)
    out = tmp_path / "lost.safetensors"
    write_shard(base, out, {"query": tiny})
    found = compare([base], [out], {"query": tiny})

    assert found.faults == ()
    assert found.kept < 0.5

    middling = delta(2e-5)  # some of it survives: the base alone is then no merge
    kept = tmp_path / "kept.safetensors"
    write_shard(base, kept, {"query": middling})
    assert compare([base], [kept], {"query": middling}).faults == ()
    assert "the adapter is not in 1 of 1" in compare([base], [base], {"query": middling}).faults[0]
