"""The files of other tools: what each of their keys means for a run, in a table a format."""
