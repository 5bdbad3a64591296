"""A small Gemma 4 that sees generated animals: its pictures, its base, its pre-training, and its fine-tunes."""
