"""The gates in `fixtures/gates.toml`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "fixtures" / "gates.toml"


def gates() -> dict[str, Any]:
    """Every gate."""
    return tomllib.loads(FILE.read_text("utf-8"))
