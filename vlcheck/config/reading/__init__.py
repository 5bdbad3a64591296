"""From a file, or a Python mapping, to plain values that remember where they were written."""
