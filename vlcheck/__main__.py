"""`python -m vlcheck`."""

from __future__ import annotations

from vlcheck.cli.app import main

main()
