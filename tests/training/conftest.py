"""The recipe `tiny` with other lines, as for evaluation."""

from tests.evaluation.conftest import config

__all__ = ["config"]
