"""Every collector by the name of what it collects: what a rule's parameters can ask for.

What cannot be had raises `Unavailable`, which skips the rules that need it; what a rule could not judge
in any case raises `NotApplicable`; a description that is of no use to any rule raises `ConfigError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vlcheck.evidence.clip import CLIP_COLLECTORS
from vlcheck.evidence.images import IMAGE_COLLECTORS
from vlcheck.evidence.labels import LABEL_COLLECTORS
from vlcheck.evidence.launch import LAUNCH_COLLECTORS
from vlcheck.evidence.memory import MEMORY_COLLECTORS
from vlcheck.evidence.model import MODEL_COLLECTORS
from vlcheck.evidence.run import RUN_COLLECTORS
from vlcheck.evidence.saved_adapter import SAVED_COLLECTORS
from vlcheck.evidence.snapshot import SNAPSHOT_COLLECTORS
from vlcheck.evidence.tiny import TINY_COLLECTORS

COLLECTORS: Mapping[str, Callable[..., Any]] = {
    collector.__name__: collector
    for collector in (
        *MODEL_COLLECTORS, *TINY_COLLECTORS, *CLIP_COLLECTORS, *LABEL_COLLECTORS, *IMAGE_COLLECTORS,
        *MEMORY_COLLECTORS, *SAVED_COLLECTORS, *RUN_COLLECTORS, *LAUNCH_COLLECTORS, *SNAPSHOT_COLLECTORS,
    )
}  # fmt: skip
