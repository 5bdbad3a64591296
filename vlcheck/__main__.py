"""`python -m vlcheck`."""

from __future__ import annotations

from vlcheck.cli import main

main()
