"""What GPUs offer a program: bytes, compute capability, and where each figure was read.

`total_bytes` is what torch reports as the card's memory, never the number on the box. Of it the CUDA context and
the kernels that are loaded take a part, which was measured on the H100 only; other rows assume the same.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One kind of card."""

    name: str
    title: str
    total_bytes: int
    major: int
    minor: int = 0
    amd: bool = False
    teraflops: float
    """Dense bf16 (fp16 for the T4) matrix rate of the vendor's datasheet."""
    source: str
    """Where `total_bytes` was read."""
    measured: bool = False
    """vlcheck's own projections were held against this card."""
    context_bytes: int = 770 * 2**20
    """CUDA context and loaded kernels: what the driver counts beyond torch's segments."""

    @property
    def basis(self) -> str:
        """How far to trust a projection for this card."""
        return "measured" if self.measured else "extrapolated"

    @property
    def workspace_bytes(self) -> int:
        """CuBLAS workspace of one thread's handle (torch, `CUDABlas.cpp`): forward and backward have one each."""
        return 32 * 2**20 if self.major >= 9 else 8320 * 1024

    @property
    def usable_bytes(self) -> int:
        """What is left for torch's segments."""
        return self.total_bytes - self.context_bytes


def _read(gib: float) -> int:
    """Bytes of a figure that was printed with two decimals."""
    return int(gib * GIB)


GPUS: tuple[Gpu, ...] = (
    Gpu(name="rtx-pro-6000", title="RTX PRO 6000 Blackwell", total_bytes=_read(94.97), major=12, teraflops=503.8,
        source="94.97 GiB on Linux, github.com/antirez/ds4/issues/431 (95.59 under WSL2, pytorch#182286)"),
    Gpu(name="h100", title="H100 80GB", total_bytes=85_017_493_504, major=9, teraflops=989.4, measured=True,
        source="torch 2.11 on an H100 80GB HBM3, driver 580.159, 2026-11-24"),
    Gpu(name="h200", title="H200", total_bytes=_read(139.8), major=9, teraflops=989.4,
        source="nvidia-smi's 143,771 MiB less what torch leaves out on the H100 (0.6 %)"),
    Gpu(name="b200", title="B200", total_bytes=_read(178.35), major=10, teraflops=2250,
        source="178.35 GiB, github.com/pytorch/ao/pull/4002"),
    Gpu(name="a100-80gb", title="A100 80GB", total_bytes=_read(79.25), major=8, teraflops=312,
        source="79.25 GiB, github.com/HiDream-ai/VAREdit/issues/6"),
    Gpu(name="a100-40gb", title="A100 40GB", total_bytes=_read(39.45), major=8, teraflops=312,
        source="39.45 GiB, github.com/LianjiaTech/BELLE/issues/137"),
    Gpu(name="l40s", title="L40S", total_bytes=_read(44.40), major=8, minor=9, teraflops=362.05,
        source="44.42 GiB, github.com/stepfun-ai/Step-Video-T2V/issues/8; 44.40 on an L40, QwenLM/Qwen3-VL#2097"),
    Gpu(name="l4", title="L4", total_bytes=_read(22.03), major=8, minor=9, teraflops=121,
        source="22.03 GiB in public out-of-memory messages; nvidia-smi 23,034 MiB, modal-labs/modal-client#2797"),
    Gpu(name="a10g", title="A10G", total_bytes=_read(22.06), major=8, minor=6, teraflops=70,
        source="22.06 GiB in public out-of-memory messages; nvidia-smi 23,028 MiB on an A10, modal-client#2797"),
    Gpu(name="t4", title="T4", total_bytes=_read(14.56), major=7, minor=5, teraflops=65,
        source="14.56 GiB, github.com/Zheng-Chong/CatVTON/issues/133"),
    Gpu(name="rtx-4090", title="RTX 4090", total_bytes=_read(23.52), major=8, minor=9, teraflops=165.2,
        source="23.52 GiB, github.com/Soul-AILab/SoulX-FlashTalk/issues/5"),
    Gpu(name="rtx-5090", title="RTX 5090", total_bytes=_read(31.34), major=12, teraflops=209.5,
        source="31.34 to 31.39 GiB in public out-of-memory messages; the least is used"),
    Gpu(name="mi300x", title="MI300X", total_bytes=_read(191.69), major=9, minor=4, amd=True, teraflops=1307.4,
        source="191.69 to 191.98 GiB in public out-of-memory messages; the least is used"),
)  # fmt: skip
"""The known cards; a name that is not here is refused."""


def gpu(name: str) -> Gpu:
    """The row of a card.

    Raises:
        ValueError: for a name that no row has; the message lists the rows.
    """
    wanted = name.lower().replace("_", "-").replace(" ", "-")
    for row in GPUS:
        if wanted in (row.name, row.title.lower().replace(" ", "-")):
            return row
    names = [row.name for row in GPUS]
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"no GPU {name!r}{hint} (known: {', '.join(names)})")
