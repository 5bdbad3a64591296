"""A run with everything found that its description only names."""

from __future__ import annotations

from dataclasses import dataclass

from vlcheck.model.build import Patch
from vlcheck.model.config import ModelConfig
from vlcheck.model.family import Family
from vlcheck.processing.collator import Collator
from vlcheck.processing.processor import FoundProcessor
from vlcheck.spec import RunSpec


@dataclass(frozen=True)
class ResolvedRun:
    """What an audit judges, a training run trains with and an evaluation asks: the same objects for all three."""

    spec: RunSpec
    config: ModelConfig
    family: Family
    processor: FoundProcessor
    collator: Collator
    """vlcheck's own, over that processor, without a limit of length."""
    patch: Patch | None
    """The user's monkeypatch, where the config names one and the user allowed it to run."""
