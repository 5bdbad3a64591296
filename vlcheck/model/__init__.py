"""A run's model: found, built without weights, in miniature or in full, and described module by module."""
