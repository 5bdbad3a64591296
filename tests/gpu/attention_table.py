"""What scaled_dot_product_attention keeps and takes on this GPU, by shape; one JSON line each."""

from __future__ import annotations

import json

import torch
from torch.nn.functional import scaled_dot_product_attention

SHAPES = [  # heads, key heads, width, tokens, rows
    (16, 16, 72, 2520, 1), (16, 16, 72, 1024, 2), (16, 16, 80, 1024, 1), (32, 16, 256, 512, 1), (32, 4, 512, 512, 1),
    (8, 2, 256, 512, 4), (8, 2, 512, 512, 4), (28, 4, 128, 512, 2), (32, 8, 128, 500, 2), (12, 12, 64, 729, 4),
    (16, 16, 64, 577, 2), (32, 32, 128, 1024, 1), (8, 4, 256, 512, 4), (16, 16, 64, 1025, 1), (16, 16, 72, 4096, 1),
]  # fmt: skip


def main() -> None:
    torch.cuda.init()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION):
        for heads, key_heads, width, tokens, rows in [
            *SHAPES,
            (32, 32, 512, 1408, 1),
            (16, 16, 512, 512, 8),
            (8, 8, 512, 256, 1),
        ]:
            for mask in ("none", "bool"):
                for gqa in {False, heads != key_heads}:
                    with sdpa_kernel(backend):
                        row = one(heads, key_heads if gqa else heads, width, tokens, rows, mask, gqa, torch.bfloat16)
                    print(json.dumps({"forced": backend.name, **row}))
    for heads, key_heads, width, tokens, rows in SHAPES:
        for mask in ("none", "causal", "bool", "bool-row", "float"):
            for gqa in {False, heads != key_heads}:
                for dtype in (torch.bfloat16, torch.float32):
                    print(json.dumps(one(heads, key_heads if gqa else heads, width, tokens, rows, mask, gqa, dtype)))


def one(heads, key_heads, width, tokens, rows, mask, gqa, dtype):
    row = {
        "heads": heads,
        "key_heads": key_heads,
        "width": width,
        "tokens": tokens,
        "rows": rows,
        "mask": mask,
        "gqa": gqa,
        "dtype": str(dtype),
    }
    try:
        for _ in range(2):
            # the layout of transformers: (rows, tokens, heads, width) transposed
            q = torch.randn(rows, tokens, heads, width, device="cuda", dtype=dtype).transpose(1, 2).requires_grad_()
            k, v = (
                torch.randn(rows, tokens, key_heads, width, device="cuda", dtype=dtype).transpose(1, 2).requires_grad_()
                for _ in range(2)
            )
            m = None
            if mask.startswith("bool"):
                shape = (rows, 1, tokens, tokens) if mask == "bool" else (1, 1, tokens, tokens)
                m = torch.ones(shape, dtype=torch.bool, device="cuda").tril()
            elif mask == "float":
                m = torch.zeros(rows, 1, tokens, tokens, dtype=dtype, device="cuda")
            grad = torch.randn(rows, tokens, heads, width, device="cuda", dtype=dtype).transpose(1, 2)
            torch.cuda.synchronize()
            base = stats()[0]
            torch.cuda.reset_peak_memory_stats()
            out = scaled_dot_product_attention(q, k, v, attn_mask=m, is_causal=mask == "causal", enable_gqa=gqa)
            row["node"] = type(out.grad_fn).__name__
            live, peak = stats()
            row["kept"], row["forward_peak"] = live - base, peak - base
            torch.cuda.reset_peak_memory_stats()
            before = stats()[0]
            out.backward(grad)
            torch.cuda.synchronize()
            live, peak = stats()
            row["backward_peak"], row["after"] = peak - before, live - base
            row["layout"] = [list(t.stride()) for t in (out, q.grad, k.grad)]
            del q, k, v, out, m, grad
    except Exception as error:
        row["error"] = f"{type(error).__name__}: {str(error)[:150]}"
    return row


def stats():
    s = torch.cuda.memory_stats()
    return s["requested_bytes.all.current"], s["requested_bytes.all.peak"]


if __name__ == "__main__":
    main()
