"""The suite; mirrors `vlcheck/` file by file."""
