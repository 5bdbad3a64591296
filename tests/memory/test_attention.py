"""The attention kernels keep and take what was measured on an H100, shape by shape."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from vlcheck.memory.attention import Arch, Call, Fused, Kernel, choose
from vlcheck.memory.blocks import Blocks
from vlcheck.memory.simulate import FollowStorages

TABLE = Path(__file__).parents[2] / "fixtures" / "measured" / "attention-h100.jsonl"
NODES = {
    "ScaledDotProductCudnnAttentionBackward0": Kernel.CUDNN,
    "ScaledDotProductFlashAttentionBackward0": Kernel.FLASH,
    "ScaledDotProductEfficientAttentionBackward0": Kernel.EFFICIENT,
    "UnsafeViewBackward0": Kernel.MATH,
    "ToCopyBackward0": Kernel.MATH,
}
ROWS = [row for row in map(json.loads, TABLE.read_text().splitlines()) if "error" not in row]
META = torch.device("meta")


def tensors(row):
    dtype = getattr(torch, row["dtype"].removeprefix("torch."))
    shape = row["rows"], row["tokens"], row["heads"], row["width"]
    key_heads = row["key_heads"]
    q = torch.empty(shape, dtype=dtype, device=META).transpose(1, 2).requires_grad_()
    k, v = (
        torch.empty(shape[0], shape[1], key_heads, shape[3], dtype=dtype, device=META).transpose(1, 2).requires_grad_()
        for _ in range(2)
    )
    square = (row["tokens"], row["tokens"])
    mask = {
        "bool": lambda: torch.empty(row["rows"], 1, *square, dtype=torch.bool, device=META),
        "bool-row": lambda: torch.empty(1, 1, *square, dtype=torch.bool, device=META),
        "float": lambda: torch.empty(row["rows"], 1, *square, dtype=dtype, device=META),
    }.get(row["mask"], lambda: None)()
    return q, k, v, mask


@pytest.mark.parametrize("row", [r for r in ROWS if "forced" not in r], ids=str)
def test_the_kernel_that_an_h100_picks(row):
    q, k, v, mask = tensors(row)
    assert choose(Arch(9), Call.of(q, k, v, mask, 0.0)) is NODES[row["node"]]


def test_every_fused_row_within_a_percent():
    """Kept by the forward pass and taken by the backward pass: bytes that torch was asked for, as measured."""
    compared = 0
    for row in ROWS:
        kernel = NODES[row["node"]]
        if kernel is Kernel.MATH:
            continue
        q, k, v, mask = tensors(row)
        blocks = Blocks()
        blocks.know([q, k, v] + ([mask] if mask is not None else []))
        with FollowStorages(blocks):
            out = Fused.apply(q, k, v, mask, kernel, blocks)
            kept = sum(blocks.tape.sizes[b] for b in blocks.tape.living(len(blocks.tape.events)))
            gradient = torch.empty_like(out)
            blocks.drop(gradient.untyped_storage()._cdata)
            before = len(blocks.tape.events)
            out.backward(gradient)
        assert abs(kept - row["kept"]) <= max(64, 0.01 * row["kept"]), row
        assert backward_peak(blocks, before) == pytest.approx(row["backward_peak"], rel=0.01, abs=1024), row
        compared += 1
    assert compared > 150


def backward_peak(blocks, before) -> int:
    held = peak = 0
    for event in blocks.tape.events[before:]:
        size = blocks.tape.sizes[event if event >= 0 else ~event]
        held += size if event >= 0 else -size
        peak = max(peak, held)
    return peak


@pytest.mark.parametrize(
    ("arch", "kernel"),
    [(Arch(12), Kernel.FLASH), (Arch(8), Kernel.FLASH), (Arch(7, 5), Kernel.MATH), (Arch(10), Kernel.CUDNN)],
)
def test_other_cards_pick_other_kernels(arch, kernel):
    """Causal bfloat16 attention of width 128, with gradients."""
    q = torch.empty(1, 8, 64, 128, dtype=torch.bfloat16, device=META, requires_grad=True)
    assert choose(arch, Call.of(q, q, q, None, 0.0)) is kernel
