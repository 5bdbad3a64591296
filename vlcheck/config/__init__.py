"""From what a user wrote to one `RunSpec`, each value with the line that set it."""
