"""Let a run's model answer its evaluation split, score the answers, compare two evaluations."""
