"""The kinds of places that samples come from, each read as a stream of rows."""
