"""How a whole run is had: each part as the rules get it."""

from __future__ import annotations

from vlcheck.finding import collector
from vlcheck.model.build import Patch
from vlcheck.model.config import ModelConfig
from vlcheck.model.family import Family
from vlcheck.processing.collator import Collator
from vlcheck.processing.processor import FoundProcessor
from vlcheck.processing.resolved_run import ResolvedRun
from vlcheck.spec import RunSpec


@collector("putting the run together")
def resolved_run(
    spec: RunSpec,
    config: ModelConfig,
    family: Family,
    processor: FoundProcessor,
    own_collator: Collator,
    patch: Patch | None,
) -> ResolvedRun:
    """The run's parts as one value, for doors that do more with a run than judge it."""
    return ResolvedRun(spec, config, family, processor, own_collator, patch)


RUN_COLLECTORS = (resolved_run,)
