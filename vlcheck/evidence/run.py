"""How a whole run is had: each part as the rules get it."""

from __future__ import annotations

from vlcheck.config.defaults import framework_of
from vlcheck.finding import collector
from vlcheck.model.aim import choices_of_framework
from vlcheck.model.build import Patch
from vlcheck.model.config import ModelConfig
from vlcheck.model.family import Family
from vlcheck.processing.collator import Collator
from vlcheck.processing.processor import FoundProcessor
from vlcheck.processing.resolved_run import ResolvedRun
from vlcheck.spec import RunSpec


@collector("putting the run together")
def resolved_run(
    aimed: RunSpec,
    config: ModelConfig,
    family: Family,
    processor: FoundProcessor,
    own_collator: Collator,
    patch: Patch | None,
) -> ResolvedRun:
    """The run's parts as one value, for doors that do more with a run than judge it."""
    return ResolvedRun(aimed, config, family, processor, own_collator, patch)


@collector("looking up what the framework does")
def framework_remarks(spec: RunSpec) -> tuple[str, ...]:
    """What the named framework does that the run's description does not say; nothing where none is named."""
    row = framework_of(spec)
    assumed = spec.origin.assumed if spec.origin is not None else ()
    if row is None:
        return assumed
    told = assumed + tuple(
        f"{row.title}: {path} is {fact.value}; this run was judged as vlcheck's default, so say it"
        for path, fact in row.depends.items()
        if path not in spec.sources
    )
    return (*told, *choices_of_framework(spec))


RUN_COLLECTORS = (resolved_run, framework_remarks)
