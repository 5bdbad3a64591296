"""How `vlcheck fit` and `vlcheck probe` look on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vlcheck.gpus import show_gib
from vlcheck.versions import installed

if TYPE_CHECKING:
    from vlcheck.memory.plan import MemoryPlan
    from vlcheck.memory.search import Fit

BAR = 36


def render_fit(fit: Fit, source: str) -> str:
    """The ledger as bars, what else would fit, and the table over cards."""
    plan = fit.plan
    projected = ", ".join(f"{name} {version}" for name, version in installed().items())
    lines = [
        f"{source}: {plan.shape}" + (f" on {plan.gpu.title} ({plan.gpu.basis})" if fit.named else ""),
        f"  rows: {plan.shape.basis.value}",
        *(f"  {each}" for each in plan.shape.assumptions),
        f"  projected for {projected}; other versions may move the peak by some per cent",
    ]
    if not fit.named:
        return "\n".join([*lines, "", *_cards(fit), "", "The run names no card: give --gpu or --memory-gib for more.",
                          *(f"doubt: {each}" for each in plan.doubts)]) + "\n"  # fmt: skip
    lines += ["", *_ledger(plan), ""]
    lines += [
        f"{plan.verdict.value}: {show_gib(plan.driver_bytes)} of {show_gib(plan.gpu.total_bytes)}, "
        f"±{plan.band:.1%} on what is allocated; peak at: {plan.moment}",
    ]
    if fit.remedy is not None:
        lines.append(f"fits with {fit.remedy.change}: {show_gib(fit.remedy.plan.driver_bytes)}")
    if fit.smaller is not None:
        lines.append(f"logits take the most; with {fit.smaller.change}: {show_gib(fit.smaller.plan.driver_bytes)}")
    image = f"{fit.largest_soft_tokens} soft tokens" if fit.largest_soft_tokens else "fixed by the model"
    lines += [
        "",
        f"largest micro-batch     {fit.largest_rows or 'none'}{' or more' if fit.rows_open else ''}",
        *([] if fit.largest_rank is None else [f"largest rank            {fit.largest_rank or 'none'}"]),
        f"largest image           {image}",
    ]
    if (best := fit.recommended) is not None:
        share = f"gradient_checkpointing: {'true' if best.checkpointed else 'false'}"
        lines += [
            "",
            f"recommended: micro-batch {best.rows} x accumulation {best.accumulation}, {share}: "
            f"{show_gib(best.driver_bytes)}",
        ]
    host = fit.host
    lines += [
        "",
        f"loading peaks at {show_gib(plan.moments.get('loading', 0))} on the card"
        + (f"; merging takes {show_gib(host.merge_bytes)}, on the card or in main memory" if host.merge_bytes else ""),
        f"host: {show_gib(host.memory_bytes)} of main memory (assumed, not measured), "
        f"{show_gib(host.disk_bytes)} of disk",
    ]
    lines += ["", *_cards(fit)] if fit.cards else []
    lines += ["", *(f"doubt: {each}" for each in plan.doubts)]
    return "\n".join(lines).rstrip() + "\n"


def fit_document(fit: Fit) -> dict[str, Any]:
    """The same for programs; bytes are whole numbers."""
    return {
        "schema": "vlcheck.fit/1",
        "plan": plan_document(fit.plan),
        "host": vars(fit.host),
        "fits_with": fit.remedy and {"change": fit.remedy.change, "driver_bytes": fit.remedy.plan.driver_bytes},
        "smaller_with": fit.smaller and {"change": fit.smaller.change, "driver_bytes": fit.smaller.plan.driver_bytes},
        "largest": {"rows": fit.largest_rows, "rows_open": fit.rows_open, "rank": fit.largest_rank,
                    "soft_tokens": fit.largest_soft_tokens},
        "recommended": fit.recommended and vars(fit.recommended),
        "gpus": [
            {
                "name": on.plan.gpu.name,
                "basis": on.plan.gpu.basis,
                "verdict": on.plan.verdict.name.lower(),
                "driver_bytes": on.plan.driver_bytes,
                "headroom_bytes": on.plan.headroom_bytes,
                "largest_rows": on.largest_rows,
            }
            for on in fit.cards
        ],
    }  # fmt: skip


def plan_document(plan: MemoryPlan) -> dict[str, Any]:
    """A plan for programs."""
    return {
        "gpu": plan.gpu.name,
        "basis": plan.gpu.basis,
        "verdict": plan.verdict.name.lower(),
        "shape": {"rows": plan.shape.rows, "tokens": plan.shape.tokens, "soft_tokens": plan.shape.soft_tokens},
        "rows": {
            "basis": plan.shape.basis.name.lower(),
            "images": plan.shape.images,
            "answer_tokens": plan.shape.supervised,
            "typical": str(plan.shape.typical or ""),
            "typical_driver_bytes": plan.typical_bytes or None,
        },
        "assumptions": list(plan.shape.assumptions),
        "doubts": list(plan.doubts),
        "lines": [{"cause": line.cause, "bytes": line.size} for line in plan.lines],
        "allocated_bytes": plan.allocated_bytes,
        "reserved_bytes": plan.reserved_bytes,
        "driver_bytes": plan.driver_bytes,
        "total_bytes": plan.gpu.total_bytes,
        "band": plan.band,
        "moment": plan.moment,
        "attention": dict(plan.kernels),
        "moments": dict(plan.moments),
    }


def render_probe(document: Mapping[str, Any], source: str) -> str:
    """Measured beside projected, row by row."""
    lines = [f"{source}: {document['steps']} steps on {document['gpu']}", "",
             f"{'':14}{'measured':>12}{'projected':>12}{'off':>9}"]  # fmt: skip
    for name, row in document["memory"].items():
        lines.append(
            f"{name:14}{show_gib(row['measured_bytes']):>12}{show_gib(row['projected_bytes']):>12}{row['error']:>+9.2%}"
        )
    speed = document["speed"]
    if speed is None:
        return "\n".join([f"{source}: does not fit {document['gpu']}", f"projected: {document['verdict']}",
                          document["failure"]]) + "\n"  # fmt: skip
    lines += [
        "",
        f"step {speed['step_seconds']:.2f} s, {speed['images_per_second']:.2f} images/s, "
        f"{speed['tokens_per_second']:.0f} tokens/s"
        + (f", model FLOP utilisation {speed['utilisation']:.1%}" if speed["utilisation"] is not None else ""),
        f"{'fits' if document['fits'] else 'does not fit'}; built in {document['build_seconds']:.1f} s",
    ]
    return "\n".join(lines) + "\n"


def _ledger(plan: MemoryPlan) -> list[str]:
    widest = max(len(line.cause) for line in plan.lines)
    rows = [*((line.cause, line.size) for line in plan.lines)]
    least = max(size for _, size in rows) / 500
    small = sum(size for _, size in rows if size < least)
    shown = [(cause, size) for cause, size in rows if size >= least] + ([("smaller ones", small)] if small else [])
    extra = [("allocated", plan.allocated_bytes), ("+ free in segments", plan.reserved_bytes - plan.allocated_bytes),
             ("+ paged optimizer", plan.managed_bytes), ("+ CUDA context", plan.gpu.context_bytes),
             ("+ NCCL", plan.nccl_bytes), ("driver sees", plan.driver_bytes)]  # fmt: skip
    scale = BAR / max(size for _, size in shown)
    bars = [f"{cause:{widest}}  {show_gib(size):>10}  {'█' * max(1, round(size * scale))}" for cause, size in shown]
    return [*bars, "", *(f"{cause:{widest}}  {show_gib(size):>10}" for cause, size in extra if size)]


def _cards(fit: Fit) -> list[str]:
    rows = [("GPU", "verdict", "used", "free", "micro-batch", "basis")]
    for on in sorted(fit.cards, key=lambda on: on.plan.gpu.total_bytes):
        plan = on.plan
        rows.append((plan.gpu.title, plan.verdict.value, show_gib(plan.driver_bytes), show_gib(plan.headroom_bytes),
                     f"~{on.largest_rows}", plan.gpu.basis))  # fmt: skip
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if 2 <= n <= 4 else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
