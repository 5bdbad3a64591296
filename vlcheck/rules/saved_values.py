"""VLC72x: what the tensors of a saved adapter hold: nothing, zeros, infinities, an unusual type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, NotApplicable, Severity, rule

if TYPE_CHECKING:
    from vlcheck.adapters.load import LoadedAdapter
    from vlcheck.adapters.safetensors import Extent
    from vlcheck.adapters.saved import SavedAdapter
    from vlcheck.model.family import Part
    from vlcheck.spec import RunSpec

USUAL = ("F32", "BF16", "F16")
ZERO3 = "wrap the save in deepspeed.zero.GatheredParameters, or set stage3_gather_16bit_weights_on_model_save: true"


@rule("VLC721", "no-tensors", Severity.ERROR, explains=("VLC701", "VLC706"))
def no_tensors(saved_adapter: SavedAdapter) -> Iterator[Finding | Examined]:
    """The file holds no tensor at all.

    Under DeepSpeed ZeRO-3 a parameter is spread over the processes, and each holds an empty one. A script
    that saves the state dict of one process writes a file of 40 bytes: a header, and nothing behind it.

    Remedy: gather the parameters before saving: `deepspeed.zero.GatheredParameters`, or
    `stage3_gather_16bit_weights_on_model_save: true`. The weights in this folder are lost; the checkpoint's
    ZeRO shards still hold them (`zero_to_fp32.py`).

    Source: https://github.com/huggingface/trl/issues/4416
    """
    yield Examined(1, "file")
    if not saved_adapter.tensors:
        yield Finding("the file holds no tensor", where=saved_adapter.where, measured={"tensors": 0}, fix=ZERO3)


@rule("VLC722", "empty-tensors", Severity.ERROR, explains=("VLC705",))
def empty_tensors(saved_adapter: SavedAdapter) -> Iterator[Finding | Examined]:
    """Tensors hold no values.

    Their names are there, their values are not: DeepSpeed ZeRO-3 or FSDP had them spread over the processes
    when they were saved.

    Remedy: gather the parameters before saving: `deepspeed.zero.GatheredParameters`, or
    `stage3_gather_16bit_weights_on_model_save: true`; under FSDP, a full state dict.

    Source: https://github.com/huggingface/peft/issues/2892
    """
    _some(saved_adapter)
    yield Examined(len(saved_adapter.tensors), "tensors")
    if empty := [tensor for tensor in saved_adapter.tensors if not tensor.numel]:
        yield Finding(
            f"{len(empty)} of {len(saved_adapter.tensors)} tensors hold no values; first: {empty[0].name[:200]} "
            f"{list(empty[0].shape)}",
            where=saved_adapter.where,
            measured={"empty": len(empty), "tensors": len(saved_adapter.tensors)},
            fix=ZERO3,
        )


@rule("VLC723", "delta-zero", Severity.ERROR)
def delta_zero(
    spec: RunSpec,
    saved_adapter: SavedAdapter,
    loaded_adapter: LoadedAdapter,
    extents: Mapping[str, Extent],
    dropped: tuple[str, ...],
) -> Iterator[Finding | Examined]:
    """Adapters add nothing: one of their two factors is all zero.

    `lora_B` starts at zero and is moved by its first gradient. Where it still is zero after training no
    gradient ever came: reentrant checkpointing, a frozen part, inputs that never reached it. The loss fell
    all the same, by what the other parts learnt.

    Remedy: `vlcheck audit` says which adapters of the run get no gradient (VLC406) and why.

    Source: https://github.com/unslothai/unsloth/issues/5039
    """
    _some(saved_adapter)
    from vlcheck.rules.coverage import FED_BY

    fed = set(spec.data.modalities)
    adapters: dict[Part | None, dict[str, bool]] = {}
    for fitted in loaded_adapter.tensors:
        name, _, factor = fitted.tensor.name.partition(".lora_")
        module = fitted.place.module if fitted.place else ""
        if fitted.tensor.name not in extents or factor.startswith("magnitude") or not factor:
            continue
        if (fitted.part in FED_BY and not FED_BY[fitted.part] & fed) or _inside(module, dropped):
            continue
        zero = adapters.setdefault(fitted.part, {})
        zero[name] = zero.get(name, False) or extents[fitted.tensor.name].zero
    yield Examined(sum(map(len, adapters.values())), "adapters that data reaches")
    for part, zero in adapters.items():
        idle = [name for name, is_zero in zero.items() if is_zero]
        if idle:
            named = part.value if part else "outside every part"
            yield Finding(
                f"{named}: {'all' if len(idle) == len(zero) else len(idle)} of {len(zero)} adapters add nothing, a "
                f"factor is all zero; first: {idle[0][:200]}",
                where=saved_adapter.where,
                measured={"zero": len(idle), "adapters": len(zero)},
            )


@rule("VLC724", "not-finite", Severity.ERROR)
def not_finite(saved_adapter: SavedAdapter, extents: Mapping[str, Extent]) -> Iterator[Finding | Examined]:
    """Tensors hold NaN or infinity.

    The run diverged, or overflowed in float16, and was saved after that. One such value in a tensor spoils
    every output.

    Remedy: go back to a checkpoint from before; train in bfloat16, with warm-up or a lower learning rate.

    Source: https://huggingface.co/docs/transformers/perf_train_gpu_one
    """
    _some(saved_adapter)
    yield Examined(len(extents), "tensors read")
    if spoilt := [name for name, extent in extents.items() if not extent.finite]:
        yield Finding(
            f"{len(spoilt)} of {len(extents)} tensors hold NaN or infinity; first: {spoilt[0][:200]}",
            where=saved_adapter.where,
            measured={"not finite": len(spoilt), "tensors": len(extents)},
        )


@rule("VLC725", "odd-dtype", Severity.WARNING)
def odd_dtype(saved_adapter: SavedAdapter) -> Iterator[Finding | Examined]:
    """The adapter's tensors have several storage types, or one that PEFT does not train in.

    PEFT keeps adapters in float32 and a trainer may cast them to bfloat16 or float16, all of them. A mixture
    comes of adapters that were merged or edited by hand; 8-bit and integer types come of a conversion that
    loses what small learning rates had written.

    Remedy: save the adapter anew from the training checkpoint, in one type.

    Source: https://huggingface.co/docs/peft/package_reference/peft_model, autocast_adapter_dtype
    """
    _some(saved_adapter)
    types = Counter(tensor.dtype for tensor in saved_adapter.tensors if ".lora_" in tensor.name)
    yield Examined(sum(types.values()), "adapter tensors")
    if len(types) > 1 or any(dtype not in USUAL for dtype in types):
        yield Finding(
            f"the adapter is stored as {', '.join(f'{dtype} ({count})' for dtype, count in sorted(types.items()))}; "
            f"usual is one of {', '.join(USUAL)}",
            where=saved_adapter.where,
            measured=dict(types),
        )


def _some(saved_adapter: SavedAdapter) -> None:
    if not saved_adapter.tensors:
        raise NotApplicable("the file holds no tensor, see VLC721")


def _inside(module: str, paths: tuple[str, ...]) -> bool:
    return any(module == path or module.startswith(f"{path}.") for path in paths)
