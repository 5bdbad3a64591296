"""From plain values to problems in the user's words: what was written, where, and what is allowed."""
