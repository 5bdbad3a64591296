"""VLC3xx: what the base really stores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, NotApplicable, Severity, rule
from vlcheck.gpus import show_gib

if TYPE_CHECKING:
    from vlcheck.model.modules import ModuleTable
    from vlcheck.spec import RunSpec


@rule("VLC301", "mostly-unquantised", Severity.WARNING)
def mostly_unquantised(spec: RunSpec, modules: ModuleTable) -> Iterator[Finding | Examined]:
    """Most bytes of a quantised base are not quantised.

    bitsandbytes packs linear layers and nothing else. Fused experts are three-dimensional parameters and
    stay as they are: a "4-bit" Gemma 4 26B-A4B stores 45 GiB, not 15. So do embeddings, and the per-layer
    embeddings of E2B and E4B outweigh all of their linear layers. The run needs the memory of the sum.

    Remedy: plan for the bytes that the finding lists; where experts make them up, a dense model of the
    same quality may be the cheaper one to train.

    Source: https://github.com/bitsandbytes-foundation/bitsandbytes/issues/1849
    """
    if spec.quantization is None:
        raise NotApplicable("the base is not quantised")
    storage = modules.storage()
    total = sum(storage.values())
    packed = sum(row.bytes for row in modules.rows if row.quantised)
    yield Examined(len(modules.rows), "modules with storage")
    if packed * 2 < total:
        yield Finding(
            f"{packed / total:.0%} of the base's {show_gib(total)} are quantised; most are in "
            f"{next(name for name in storage if 'quantised' not in name)}",
            where=spec.where("quantization.load_in_4bit"),
            measured={f"{name}_bytes": count for name, count in storage.items()} | {"total_bytes": total},
        )
