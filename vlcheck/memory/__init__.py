"""What a run takes on its GPU: a real training step, followed on meta or measured on the card."""
