"""Training scripts and notebooks: read by their syntax tree; no line of them is run."""
