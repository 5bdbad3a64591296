"""What GPUs offer a program: bytes, compute capability, and where each figure was read.

`total_bytes` is what torch reports as the card's memory, never the number on the box. Of it the CUDA context and
the kernels that are loaded take a part, which was measured on the H100 only; other rows assume the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

GIB = 2**30


def show_gib(size: int) -> str:
    """Bytes as every message prints them: one decimal, and two digits of less than one GiB."""
    gib = size / GIB
    return f"{gib:,.1f} GiB" if abs(gib) >= 1 or not size else f"{gib:.2g} GiB"


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
    """Dense 16-bit matrix rate of the vendor's datasheet: bf16, or fp16 where the card has no bf16."""
    source: str
    """Where `total_bytes` was read."""
    measured: bool = False
    """vlcheck's own projections were held against this card."""
    context_bytes: int = 770 * 2**20
    """CUDA context and loaded kernels: what the driver counts beyond torch's segments."""

    assumed: str = ""
    """What of this row was assumed rather than read."""

    @property
    def bf16(self) -> bool:
        """Whether the card computes bfloat16 itself; NVIDIA's do from compute capability 8.0, AMD's from gfx90a."""
        return self.amd or self.major >= 8

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
    Gpu(name="gb200", title="GB200", total_bytes=_read(183.92), major=10, teraflops=2500,
        source="nvidia-smi's 189,471 MiB less what torch leaves out on the H100 (0.6 %)"),
    Gpu(name="h20", title="H20", total_bytes=_read(95.0), major=9, teraflops=148,
        source="95.00 GiB, github.com/modelscope/DiffSynth-Studio/issues/1238; nvidia-smi 97,871 MiB"),
    Gpu(name="a800-80gb", title="A800 80GB", total_bytes=_read(79.33), major=8, teraflops=312,
        source="79.33 GiB, github.com/hahnyuan/PB-LLM/issues/3"),
    Gpu(name="rtx-a6000", title="RTX A6000", total_bytes=_read(47.54), major=8, minor=6, teraflops=154.8,
        source="47.54 GiB in public out-of-memory messages, error correction off"),
    Gpu(name="rtx-6000-ada", title="RTX 6000 Ada", total_bytes=_read(44.43), major=8, minor=9, teraflops=364.2,
        source="44.43 GiB with error correction on, github.com/DINGYANB/MTVCrafter/issues/21"),
    Gpu(name="a40", title="A40", total_bytes=_read(44.35), major=8, minor=6, teraflops=149.7,
        source="44.35 GiB, the least in public out-of-memory messages of cards with nvidia-smi's 46,068 MiB"),
    Gpu(name="l20", title="L20", total_bytes=_read(44.53), major=8, minor=9, teraflops=119.5,
        source="44.53 GiB, github.com/Tencent-Hunyuan/HunyuanCustom/issues/36"),
    Gpu(name="v100-32gb", title="V100 32GB", total_bytes=_read(31.74), major=7, teraflops=125,
        source="31.74 GiB, github.com/liucongg/ChatGLM-Finetuning/issues/73"),
    Gpu(name="v100-16gb", title="V100 16GB", total_bytes=_read(15.78), major=7, teraflops=125,
        source="15.78 GiB, github.com/kchengiva/Shift-GCN/issues/34"),
    Gpu(name="p100", title="P100", total_bytes=_read(15.9), major=6, teraflops=21.2,
        source="15.90 GiB in public out-of-memory messages"),
    Gpu(name="rtx-3090", title="RTX 3090", total_bytes=_read(23.52), major=8, minor=6, teraflops=71.2,
        source="24,576 MiB less what torch leaves out on the RTX 4090 (2.0 %); 23.70, github.com/GaoLii/DSP/issues/10"),
    Gpu(name="rtx-4080", title="RTX 4080", total_bytes=_read(15.68), major=8, minor=9, teraflops=97.5,
        source="nvidia-smi's 16,376 MiB less what torch leaves out on the RTX 4090 (2.0 %)"),
    Gpu(name="mi250", title="MI250", total_bytes=_read(63.98), major=9, amd=True, teraflops=181,
        source="63.98 GiB in public out-of-memory messages: one of its two dies, each of which torch counts as a GPU"),
    Gpu(name="mi325x", title="MI325X", total_bytes=_read(255.69), major=9, minor=4, amd=True, teraflops=1307.4,
        source="255.69 to 255.98 GiB in public out-of-memory messages; the least is used"),
)  # fmt: skip
"""The known cards."""

ORNAMENTS = {"nvidia", "geforce", "tesla", "amd", "instinct", "sxm", "sxm2", "sxm4", "sxm5", "pcie", "hbm3",
             "generation", "blackwell", "server", "workstation", "edition"}  # fmt: skip
"""Words of a driver's name for a card that tell no row from another."""


class UnknownGpu(ValueError):
    """A card that no row describes; the message says what is known of its name."""


def gpu(name: str) -> Gpu:
    """The row of a card, by its name here or by what its driver calls it.

    Raises:
        UnknownGpu: for a name that no row has. No other card is suggested: one of another size would be judged.
    """
    wanted = _plain(name)
    for row in GPUS:
        if wanted in (_plain(row.name), _plain(row.title)):
            return row
    sizes = [row.name for row in GPUS if row.name.endswith("gb") and _plain(row.name.rpartition("-")[0]) == wanted]
    which = f"it comes as {' and '.join(sizes)}" if sizes else f"known: {', '.join(row.name for row in GPUS)}"
    raise UnknownGpu(f"no GPU {name!r} ({which})")


def card(name: str | None, memory_gib: float | None) -> Gpu | None:
    """The card of a run as far as it is told: by name, by its memory, or both; None where nothing is.

    Args:
        memory_gib: of one GPU; outranks the row's.

    Raises:
        UnknownGpu: for a name that no row has, where the memory is not told either.
    """
    if memory_gib is None:
        return None if name is None else gpu(name)
    total = _read(memory_gib)
    try:
        row = gpu(name or "")
    except UnknownGpu:
        title = f"{name}, {memory_gib:g} GiB" if name else f"card of {memory_gib:g} GiB"
        return Gpu(name=name or "unnamed", title=title, total_bytes=total, major=8, minor=9, teraflops=0.0,
                   source="hardware.memory_gib", assumed="its kernels are taken to be those of compute capability 8.9"
                   )  # fmt: skip
    return replace(row, title=f"{row.title}, {memory_gib:g} GiB", total_bytes=total, measured=False,
                   source="hardware.memory_gib")  # fmt: skip


def _plain(name: str) -> str:
    words = [word for word in re.findall(r"[a-z0-9]+", name.lower()) if word not in ORNAMENTS]
    return "".join(words)
