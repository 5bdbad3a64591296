"""The job that starts a run: read from its platform's own file, and what the platform does with it."""
