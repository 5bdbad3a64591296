"""A training script run up to its first step, in a child process, on a model in miniature: user code runs here."""
