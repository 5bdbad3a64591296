"""VLC3xx: memory that buys nothing, and number types that the card does not compute."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, NotApplicable, Severity, rule
from vlcheck.gpus import show_gib

if TYPE_CHECKING:
    from vlcheck.gpus import Gpu
    from vlcheck.memory.plan import MemoryPlan
    from vlcheck.model.modules import ModuleTable
    from vlcheck.spec import RunSpec

LARGE = 0.05
"""Share of the peak from which waste is worth a word."""


@rule("VLC304", "full-logits", Severity.WARNING)
def full_logits(spec: RunSpec, memory_plan: MemoryPlan) -> Iterator[Finding | Examined]:
    """Logits are computed at every position, and only a few are supervised.

    A vocabulary of 262,144 makes one position's logits a megabyte in fp32, and the loss holds them several
    times over. Positions without a label add nothing to the loss or its gradient.

    Remedy: `logits: supervised`, as `vlcheck train` does: the same loss and the same gradients. In other
    trainers, a chunked or fused cross entropy.

    Source: https://github.com/huggingface/trl/pull/5575
    """
    if spec.training.logits == "supervised":
        raise NotApplicable("logits are computed at supervised positions only")
    if spec.training.logits != "all":
        raise NotApplicable(f"logits are {spec.training.logits}: they are never held at all positions at once")
    shape = memory_plan.shape
    yield Examined(shape.rows * shape.tokens, "positions")
    held = memory_plan.of("logits and loss")
    if held > LARGE * memory_plan.allocated_bytes:
        yield Finding(
            f"{show_gib(held)} of the peak are logits at {shape.rows * shape.tokens} positions, "
            f"{shape.rows * shape.supervised} of them supervised",
            where=spec.where("training.logits"),
            measured={"logits_bytes": held, "peak_bytes": memory_plan.allocated_bytes},
            fix="logits: supervised"
            if spec.own_loop
            else "a chunked or fused cross entropy, where the framework has one for this model",
        )


@rule("VLC305", "kbit-upcast", Severity.WARNING)
def kbit_upcast(spec: RunSpec, modules: ModuleTable) -> Iterator[Finding | Examined]:
    """Preparing for k-bit training doubles what is not quantised.

    peft's `prepare_model_for_kbit_training` turns every 16-bit tensor that is not packed into fp32: norms, where
    it may help, but embeddings and unquantised towers too, whose activations then are fp32 as well.

    Remedy: leave it out. What QLoRA needs of it, frozen weights and inputs that require gradients, the trainer
    sees to.

    Source: https://github.com/huggingface/peft/issues/3265
    """
    if not spec.training.kbit_preparation:
        raise NotApplicable("the run does not prepare for k-bit training")
    wide = [row for row in modules.rows if not row.quantised and row.dtype in ("bfloat16", "float16")]
    yield Examined(len(modules.rows), "modules with storage")
    if wide:
        grown = sum(row.bytes for row in wide)
        yield Finding(
            f"{show_gib(grown)} of 16-bit tensors become fp32 and take as much again; most are in "
            f"{max(wide, key=lambda row: row.bytes).name}",
            where=spec.where("training.kbit_preparation"),
            measured={"added_bytes": grown, "modules": len(wide)},
            fix="kbit_preparation: false",
        )


@rule("VLC309", "math-attention", Severity.WARNING)
def math_attention(spec: RunSpec, memory_plan: MemoryPlan) -> Iterator[Finding | Examined]:
    """Attention falls back to the kernel that keeps its whole matrix.

    torch picks a fused kernel where one takes the head's width, the mask and the number type; else plain
    matrix products, which keep a matrix of queries times keys for each head until the backward pass.
    Pre-Ampere cards have no fused kernel for bfloat16.

    Remedy: a card or a number type that a fused kernel takes; a shorter row; checkpointing, which keeps one
    layer's matrix at a time.

    Source: torch, aten/src/ATen/native/transformers/cuda/sdp_utils.cpp
    """
    calls = sum(memory_plan.kernels.values())
    if not calls:
        raise NotApplicable("no submodel uses scaled_dot_product_attention")
    yield Examined(calls, "attention calls")
    if count := memory_plan.kernels.get("math", 0):
        yield Finding(
            f"{count} of {calls} attention calls keep their matrix on {memory_plan.gpu.title}",
            where=spec.where("hardware.gpu"),
            measured=dict(memory_plan.kernels.items()),
        )


@rule("VLC311", "no-bf16", Severity.WARNING)
def no_bf16(spec: RunSpec, gpu: Gpu) -> Iterator[Finding | Examined]:
    """The run computes in bfloat16 on a card that has none.

    NVIDIA's cards compute bfloat16 from compute capability 8.0. torch emulates it on older ones, so that
    transformers' check passes and the run starts: matrix products are converted to fp32 and back, and attention
    falls back to the kernel that keeps its whole matrix.

    Remedy: `fp16: true` with `bnb_4bit_compute_dtype: float16`, if the family does not overflow there (VLC801); else
    a card from Ampere on.

    Source: torch, torch/cuda/__init__.py, is_bf16_supported(including_emulation=True)
    """
    if gpu.assumed:
        raise NotApplicable(f"the card is known by its memory only: {gpu.assumed}")
    settings = {"training.bf16": spec.training.bf16}
    if spec.quantization is not None and spec.quantization.load_in_4bit:
        settings["quantization.bnb_4bit_compute_dtype"] = spec.quantization.bnb_4bit_compute_dtype == "bfloat16"
    yield Examined(len(settings), "number type settings")
    for key, asked in settings.items():
        if asked and not gpu.bf16:
            yield Finding(
                f"{key} asks for bfloat16, which {gpu.title} (compute capability {gpu.major}.{gpu.minor}) does not "
                "compute; allowed: compute capability 8.0 or higher",
                where=spec.where(key),
                measured={"setting": key, "compute capability": f"{gpu.major}.{gpu.minor}"},
                fix="bf16: false" if key == "training.bf16" else "bnb_4bit_compute_dtype: float32",
            )
