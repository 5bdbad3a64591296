"""What the label, data and memory rules judged, as facts for the head of a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vlcheck.gpus import show_gib

if TYPE_CHECKING:
    from vlcheck.launch.job import Job
    from vlcheck.memory.plan import MemoryPlan


def judged(known: Mapping[str, Any]) -> dict[str, Any]:
    """Facts about what was looked at, from the evidence that was collected; what no rule asked for is left out.

    Returns:
        `processor` and `collator` as one phrase each; `rows` and `built_in_rows`, how many rows of the run's data
        and of vlcheck's own had their labels judged, without rows that the run cannot meet; `longest_row_tokens` of
        these, images expanded; `scanned_rows`, rows of the data that were read in full; `gpu`, the card's title;
        `memory`, what is projected on it, and for which rows; `job`, how long a job takes and what it costs.
    """
    facts: dict[str, Any] = {}
    if (processor := known.get("processor")) is not None:
        facts["processor"] = processor.origin
    if processor is not None and (checks := known.get("checks")) is not None:
        met = [row for row in checks.rows if not row.beyond]
        own, built_in = sum(row.kind == "data" for row in checks.rows), sum(row.kind != "data" for row in met)
        facts |= {"collator": checks.origin, "rows": own, "built_in_rows": built_in}
        if met:
            facts["longest_row_tokens"] = max(row.tokens for row in met)
    if (scan := known.get("scan")) is not None:
        facts["scanned_rows"] = len(scan.rows.split)
    if (card := known.get("gpu")) is not None:
        facts["gpu"] = card.title
    if (plan := known.get("memory_plan")) is not None:
        facts["memory"] = _memory(plan)
    if (job := known.get("job")) is not None:
        facts["job"] = _job(job, known)
    return facts


def _job(job: Job, known: Mapping[str, Any]) -> str:
    """Where the job runs, for how long and for how much, as far as that was projected; what of its files was read."""
    from vlcheck.launch.cost import cost_of
    from vlcheck.launch.platforms import platform_of

    row, spec = platform_of(job.platform), known["spec"]
    told, duration = [f"{row.title} job of {job.where.file}"], known.get("duration")
    if duration is not None:
        card = known.get("job_card") or known["gpu"]
        told.append(f"{duration.total} projected ({duration.basis})")
        cost = cost_of(duration, row, card.name, spec.hardware.count, spec.hardware.price_per_hour, job)
        told += [cost] if cost else ["no price is known for it"]
        told += [f"each of {job.retries.value} retries as much again"] if job.retries and job.retries.value else []
    return "; ".join((*told, *job.remarks))


def _memory(plan: MemoryPlan) -> str:
    """The worst micro-batch, what is assumed of it, the typical one, and an evaluation where there is one."""
    assumed = "; ".join(plan.shape.assumptions) or plan.shape.basis.value
    told = [f"{show_gib(plan.driver_bytes)} projected for {plan.shape} ({assumed})"]
    told += [f"{show_gib(plan.typical_bytes)} for middling rows"] * bool(plan.typical_bytes)
    if (evaluation := plan.moments.get("evaluation")) is not None:
        told.append(f"{show_gib(evaluation)} allocated in an evaluation")
    return ", ".join(told)


UNSEEN = "not seen"
"""What the subject says of patches that the training script applies on its own."""


def told_by(subject: Mapping[str, Any]) -> tuple[str, ...]:
    """The remarks that a report's subject makes: patches that nobody saw, the processor, whose labels on which rows."""
    told = []
    if subject.get("patches") == UNSEEN:
        told.append(
            "patches that your training script applies to transformers or PEFT were not seen; name them in model.patch"
        )
    if "processor" in subject:
        told.append(f"processor: {subject['processor']}")
    if "collator" in subject:
        rows = subject.get("rows")
        beside = " and built-in ones" if subject.get("built_in_rows", True) else ""
        source = f"{rows} rows of the run's data{beside}" if rows else "built-in rows"
        told.append(f"labels of {subject['collator']} were judged on {source}")
    return tuple(told)
