"""Doors into a job that runs: a trainer's callback, and a check of the objects that any loop holds."""
