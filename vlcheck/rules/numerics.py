"""VLC8xx: number types, attention backends and settings that spoil a run's numbers or stop it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, NotApplicable, Severity, Weight, rule
from vlcheck.model.family import Family

if TYPE_CHECKING:
    from torch import nn

    from vlcheck.evidence.model import Heads
    from vlcheck.evidence.tiny import CacheEffect
    from vlcheck.model.config import ModelConfig
    from vlcheck.model.modules import ModuleTable
    from vlcheck.spec import Lora, RunSpec

LARGEST_HEAD = {"flash_attention_2": 256, "flash_attention_3": 256, "flash_attention_4": 128}
"""Largest head dimension of each flash attention, as quoted in the source of VLC804."""
MOST_RATE, MOST_NORM = 5e-5, 0.1
"""What helped a run with exploding gradients by report; see the source of VLC806."""
TOO_FAST = 10
"""Times a rate that works: what a run of ours at so many lost, `vlcheck explain VLC806` tells."""


@rule("VLC801", "fp16-overflow", Severity.WARNING)
def fp16_overflow(spec: RunSpec, family: Family) -> Iterator[Finding | Examined]:
    """The run computes in float16, and this family is known to overflow there.

    Float16 ends at 65,504. Models that were trained in bfloat16 can hold larger activations; they become
    infinite, then NaN, and a loss scaler skips step after step while the loss that is logged stays finite.

    Remedy: bfloat16 throughout: `dtype: bfloat16`, `bf16: true`, `bnb_4bit_compute_dtype: bfloat16`.

    Source: https://github.com/huggingface/transformers/pull/46277 (reported; not measured here)
    """
    if not family.overflows_in_fp16:
        raise NotApplicable(f"no overflow of {family.name} in float16 is known")
    quantization = spec.quantization
    settings = {
        "model.dtype": spec.model.dtype == "float16",
        "training.fp16": spec.training.fp16,
        "quantization.bnb_4bit_compute_dtype": quantization is not None
        and quantization.load_in_4bit
        and quantization.bnb_4bit_compute_dtype == "float16",
    }
    yield Examined(len(settings), "number type settings")
    for key, half in settings.items():
        if half:
            yield Finding(
                f"{key} asks for float16, in which {family.name} is known to overflow: {family.overflows_in_fp16}",
                where=spec.where(key),
                measured={"setting": key, "number type": "float16"},
                fix="fp16: false, bf16: true" if key == "training.fp16" else f"{key.rpartition('.')[2]}: bfloat16",
            )


@rule("VLC802", "mixed-adapter-dtypes", Severity.WARNING)
def mixed_adapter_dtypes(spec: RunSpec, modules: ModuleTable) -> Iterator[Finding | Examined]:
    """Adapters have different number types.

    PEFT makes adapters float32 on a half-precision base. A cast in a script that misses some leaves two
    types: a matrix product then fails with "expected scalar type", or FSDP refuses to flatten them.

    Remedy: cast all adapters alike, after the last one is attached.

    Source: https://github.com/huggingface/trl/pull/4457
    """
    types = Counter(row.adapter_dtype for row in modules.adapters())
    if not types:
        raise NotApplicable("the run has no adapters")
    yield Examined(types.total(), "adapters")
    if len(types) > 1:
        rarest = min(types, key=lambda name: types[name])
        first = next(row.name for row in modules.adapters() if row.adapter_dtype == rarest)
        yield Finding(
            f"adapters of {len(types)} number types; {types[rarest]} are {rarest}, first: {first}",
            where=spec.where("lora"),
            measured=dict(types),
            fix="cast all adapters to one type",
        )


@rule("VLC803", "quant-storage-fsdp", Severity.ERROR)
def quant_storage_fsdp(spec: RunSpec) -> Iterator[Finding | Examined]:
    """FSDP cannot flatten packed weights whose storage type differs from the rest.

    FSDP flattens the parameters of a block into one tensor of one type. Packed 4-bit weights are stored
    as uint8 by default, and the run stops with "Must flatten tensors with uniform dtype".

    Remedy: `bnb_4bit_quant_storage` equal to `model.dtype`.

    Source: https://github.com/huggingface/peft/issues/1432
    """
    if not spec.training.fsdp or spec.quantization is None or not spec.quantization.load_in_4bit:
        raise NotApplicable("no 4-bit base under FSDP")
    yield Examined(1, "storage type")
    if spec.quantization.bnb_4bit_quant_storage != spec.model.dtype:
        yield Finding(
            f"bnb_4bit_quant_storage is {spec.quantization.bnb_4bit_quant_storage}, the other tensors are "
            f"{spec.model.dtype}; FSDP flattens only one type",
            where=spec.where("quantization.bnb_4bit_quant_storage"),
            measured={"quant storage": spec.quantization.bnb_4bit_quant_storage, "dtype": spec.model.dtype},
            fix=f"bnb_4bit_quant_storage: {spec.model.dtype}",
        )


@rule("VLC804", "head-too-wide", Severity.ERROR)
def head_too_wide(spec: RunSpec, heads: Heads, reference: nn.Module) -> Iterator[Finding | Examined]:
    """An attention head is wider than the requested backend can compute.

    Gemma 4's global layers have heads of 512. FlashAttention 2 and 3 stop at 256, FlashAttention 4 at 128:
    the first global layer raises, after the model has been loaded.

    Remedy: `attn_implementation: sdpa`, or leave it unset.

    Source: https://github.com/PrimeIntellect-ai/prime-rl/issues/2362 (limits quoted; not measured here)
    """
    from vlcheck.model.attention import attention_support

    flash = {name: widths for name, widths in heads.widths.items() if name in LARGEST_HEAD}
    if not flash:
        raise NotApplicable("no flash attention is requested")
    yield Examined(sum(sum(widths.values()) for widths in flash.values()), "attention layers")
    for name, widths in flash.items():
        limit = LARGEST_HEAD[name]
        wide = {width: count for width, count in widths.items() if width > limit}
        if wide:
            yield Finding(
                f"{sum(wide.values())} attention layers have heads of {max(wide)}; {name} computes heads of at most "
                f"{limit}",
                where=spec.where("model.attn_implementation"),
                measured={"layers": sum(wide.values()), "head width": max(wide), "limit": limit},
                fix="attn_implementation: sdpa"
                if all(attention_support(reference, "sdpa").values())
                else "remove attn_implementation",
            )


@rule("VLC805", "cache-changes-logits", Severity.ERROR)
def cache_changes_logits(spec: RunSpec, cache_effect: CacheEffect) -> Iterator[Finding | Examined]:
    """With the installed transformers, training computes other logits than generation does.

    Gemma 4 E2B and E4B let late layers reuse the keys and values of earlier ones. Some versions handed
    them over through the cache alone: with `use_cache=False`, or under checkpointing, which switches the
    cache off, the late layers attended to nothing sensible and the loss started at 10 to 16. Measured on
    the miniature with the versions installed here.

    Remedy: another version of transformers (5.17 and 5.23 are sound).

    Source: https://github.com/huggingface/transformers/issues/45242
    """
    if not cache_effect.shared_layers:
        raise NotApplicable("no layer shares keys and values with another")
    yield Examined(cache_effect.logits, "logits compared with and without the cache")
    if cache_effect.largest > 1e-3:
        yield Finding(
            f"logits move by {cache_effect.largest:.3g} when the cache is off; {cache_effect.shared_layers} layers of "
            "the miniature share keys and values",
            where=spec.where("training.gradient_checkpointing"),
            measured={"largest change": cache_effect.largest, "shared layers": cache_effect.shared_layers},
            fix="install a transformers version without the fault",
        )


@rule(
    "VLC806",
    "exploding-gradients",
    Severity.NOTE,
    weighs=(Weight(Severity.WARNING, "the learning rate is ten times the reported one, or more"),),
)
def exploding_gradients(spec: RunSpec, lora: Lora, config: ModelConfig, family: Family) -> Iterator[Finding | Examined]:
    """Large gradient norms are reported for LoRA on this model.

    For Gemma 4 31B norms of 312 to 11,140 before clipping are on record, on text alone, where models of
    its size stay below 1. No wrapper is involved: attention has no scale beside its normalised queries and
    keys. A clip at 1.0 then rules every step. What helped by report: learning rate at most 5e-5,
    `max_grad_norm: 0.1`, `adam_beta2: 0.995`.

    Remedy: watch the norm from the first step; lower the clip if it stays above 1.

    Source: https://github.com/huggingface/transformers/issues/45676 and
    https://github.com/axolotl-ai-cloud/axolotl/pull/3987 (reported; not measured here)
    """
    if not family.explodes(config.values):
        raise NotApplicable("no report of exploding gradients for this model")
    training = spec.training
    yield Examined(2, "settings (learning rate, clip)")
    clipless = training.max_grad_norm == 0
    high = {
        f"learning rate {training.learning_rate:g}, above {MOST_RATE:g}": training.learning_rate > MOST_RATE,
        f"max_grad_norm {training.max_grad_norm:g}, above {MOST_NORM:g}": training.max_grad_norm > MOST_NORM,
        "max_grad_norm 0, which clips nothing": clipless,
    }
    if any(high.values()):
        lower = (f"learning_rate: {MOST_RATE:g}" if training.learning_rate > MOST_RATE else "",
                 f"max_grad_norm: {MOST_NORM:g}" if training.max_grad_norm > MOST_NORM or clipless else "")  # fmt: skip
        yield Finding(
            f"{' and '.join(what for what, is_high in high.items() if is_high)}: norms of 312 to 11,140 are reported "
            "for LoRA on this model",
            where=spec.where("training.max_grad_norm"),
            measured={"learning_rate": training.learning_rate, "max_grad_norm": training.max_grad_norm},
            fix=", ".join(filter(None, lower)),
            severity=Severity.WARNING if training.learning_rate >= TOO_FAST * MOST_RATE else None,
        )
