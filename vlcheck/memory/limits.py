"""What a run does that no simulated step would, which is refused by name, and what is less sure than the measured."""

from __future__ import annotations

from torch import nn

from vlcheck.finding import Unavailable
from vlcheck.gpus import Gpu
from vlcheck.memory.plan import COMPILED, COMPILED_KEPT, GRAPHS, OUTLIERS
from vlcheck.model.attention import attention_support
from vlcheck.model.build import base_of
from vlcheck.model.family import Family
from vlcheck.spec import RunSpec
from vlcheck.training.settings import StepSettings


def check_modelled(spec: RunSpec) -> None:
    """Refuse by name what a step of the run does and no simulated step would.

    Raises:
        Unavailable: for packing, padding-free rows and activations on the host.
    """
    training = spec.training
    refusal = "TRL 1.16 refuses it for rows with images (sft_trainer.py:779-788)"
    for name, asked, reason in (
        ("packing", training.packing, f"several conversations would share a row of max_length tokens; {refusal}"),
        ("padding_free", training.padding_free, f"the rows of a micro-batch would be one; {refusal}"),
        ("activation_offloading", training.activation_offloading,
         "what is on the card depends on how fast copies leave it"),
    ):  # fmt: skip
        if asked:
            raise Unavailable(f"training.{name} has no memory model: {reason}", f"leave {name} out")


def check_attention(model: nn.Module, spec: RunSpec) -> None:
    """Refuse a run whose base does not load.

    Raises:
        Unavailable: if a submodel refuses the attention implementation that the run asks for.
    """
    asked = spec.model.attention
    support = {} if asked is None else attention_support(base_of(model), asked)
    if refusing := [name for name, accepts in support.items() if not accepts]:
        raise Unavailable(
            f"{', '.join(refusing)} refuses attn_implementation {asked!r}, so the base does not load, see VLC110",
            "remove attn_implementation",
        )


def doubts(gpu: Gpu, family: Family, settings: StepSettings, spec: RunSpec, *, graphs: bool = False) -> tuple[str, ...]:
    """What is less certain about a run than about those that were measured, one phrase each.

    Args:
        settings: those that the run is projected with, which may be others than its own.
        graphs: whether compiled layers were simulated by the graphs that the compiler makes.
    """
    found = []
    if not gpu.measured:
        found.append(f"extrapolated: nothing was measured on a {gpu.title}{gpu.assumed and f'; {gpu.assumed}'}")
    asked = settings.attention
    kinds = {asked} if asked is None or isinstance(asked, str) else {kind for _, kind in asked}
    foreign = sorted(kind for kind in kinds if kind not in (None, "sdpa", "eager"))
    found += [f"{kind} is projected as torch's own attention kernels" for kind in foreign]
    if settings.precision == "fp16":
        found.append("no fp16 run was measured")
    if settings.replicated and not settings.own_loop:
        found.append("DDP as this framework wraps it is projected, not measured")
    if settings.logits == "chunked":
        found.append("logits: chunked is projected as TRL 1.16's head, which was read, not measured")
    if settings.logits == "fused":
        found.append("logits: fused is projected as logits at supervised positions only; what the kernel holds was not "
                     "measured")  # fmt: skip
    if settings.compiled:
        as_written = COMPILED if settings.checkpointing == 1 else COMPILED_KEPT
        found.append(GRAPHS if graphs else as_written)
    if spec.lora is not None and spec.lora.use_dora:
        found.append("no DoRA run was measured")
    if spec.quantization is not None and spec.quantization.load_in_8bit and spec.quantization.llm_int8_threshold:
        found.append(OUTLIERS)
    if not family.measured:
        found.append(f"no {family.name} run was measured")
    if family.doubt:
        found.append(family.doubt)
    if spec.model.patch is not None:
        found.append(f"the patch {spec.model.patch} is not simulated")
    return tuple(found)
