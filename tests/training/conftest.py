"""The command in an empty folder, as for evaluation."""

from tests.evaluation.conftest import config, vlcheck

__all__ = ["config", "vlcheck"]
