"""What only a GPU can show; `pytest -m gpu`, never part of the default run."""
