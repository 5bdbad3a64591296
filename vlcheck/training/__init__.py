"""The rooms of the training loop: what feeds it, watches it, records it, and keeps its state safe."""
