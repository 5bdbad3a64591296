"""A run's model: found, built without weights, tiny or in full, and described module by module."""
