"""Training scripts and notebooks: read by their syntax tree alone, with no line of them run and none of them imported."""
