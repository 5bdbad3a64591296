"""What each framework does when it is told nothing: one row a framework and version, each value with its place.

A place is a file of the framework's own release and the line. Values that a run's description can hold stand in
`defaults` under their dotted path; `vlcheck.config.defaults` fills them in where a config says nothing. To add a
version, add a row.
"""

from __future__ import annotations

from vlcheck.config.frameworks.axolotl import AXOLOTL
from vlcheck.config.frameworks.llamafactory import LLAMA_FACTORY
from vlcheck.config.frameworks.ms_swift import MS_SWIFT
from vlcheck.config.frameworks.row import Fact, Framework, Supervision
from vlcheck.config.frameworks.transformers import TRANSFORMERS
from vlcheck.config.frameworks.trl import TRL, TRL_0_24
from vlcheck.config.frameworks.unsloth import UNSLOTH

__all__ = [
    "AXOLOTL",
    "FRAMEWORKS",
    "LLAMA_FACTORY",
    "MS_SWIFT",
    "TRANSFORMERS",
    "TRL",
    "TRL_0_24",
    "UNSLOTH",
    "Fact",
    "Framework",
    "Supervision",
]

FRAMEWORKS: tuple[Framework, ...] = (TRANSFORMERS, TRL, TRL_0_24, AXOLOTL, LLAMA_FACTORY, MS_SWIFT, UNSLOTH)
"""The rows; of one framework the newest version first."""
