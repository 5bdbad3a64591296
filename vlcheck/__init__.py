"""Find what silently ruins a vision-language QLoRA run, before it reaches a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vlcheck.versions import __version__

if TYPE_CHECKING:
    from vlcheck.collators import strategies
    from vlcheck.config.load import load
    from vlcheck.data.conversation import Conversation, Picture, Turn
    from vlcheck.engine import assert_collator, audit, check_adapter, check_collator, preflight, train_run
    from vlcheck.evaluation.merge import check_merged, merge
    from vlcheck.evaluation.run import evaluate_run
    from vlcheck.finding import Finding, Report, Severity
    from vlcheck.integrations.callback import RunCheckCallback, RunCheckFailed
    from vlcheck.integrations.check_run import check_run
    from vlcheck.launch.read import read_job
    from vlcheck.spec import ConfigError, RunSpec

__all__ = [
    "ConfigError",
    "Conversation",
    "Finding",
    "Picture",
    "Report",
    "RunCheckCallback",
    "RunCheckFailed",
    "RunSpec",
    "Severity",
    "Turn",
    "__version__",
    "assert_collator",
    "audit",
    "check_adapter",
    "check_collator",
    "check_merged",
    "check_run",
    "evaluate_run",
    "load",
    "merge",
    "preflight",
    "read_job",
    "strategies",
    "train_run",
]

_HOMES = {
    "assert_collator": "vlcheck.engine",
    "audit": "vlcheck.engine",
    "check_adapter": "vlcheck.engine",
    "check_collator": "vlcheck.engine",
    "check_run": "vlcheck.integrations.check_run",
    "RunCheckCallback": "vlcheck.integrations.callback",
    "RunCheckFailed": "vlcheck.integrations.callback",
    "check_merged": "vlcheck.evaluation.merge",
    "evaluate_run": "vlcheck.evaluation.run",
    "merge": "vlcheck.evaluation.merge",
    "train_run": "vlcheck.engine",
    "load": "vlcheck.config.load",
    "preflight": "vlcheck.engine",
    "read_job": "vlcheck.launch.read",
    "Finding": "vlcheck.finding",
    "Report": "vlcheck.finding",
    "Severity": "vlcheck.finding",
    "ConfigError": "vlcheck.spec",
    "Conversation": "vlcheck.data.conversation",
    "Picture": "vlcheck.data.conversation",
    "Turn": "vlcheck.data.conversation",
    "RunSpec": "vlcheck.spec",
}


def __getattr__(name: str) -> Any:
    """Import on first use: `vlcheck --help` must not wait for torch."""
    import importlib

    if name == "strategies":
        return importlib.import_module("vlcheck.collators.strategies")
    if name not in _HOMES:
        raise AttributeError(f"module 'vlcheck' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
