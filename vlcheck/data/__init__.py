"""Where a run's rows come from, in one shape, and what a scan of them shows."""
