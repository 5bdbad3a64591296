"""How the command line speaks, stays quiet, writes files and ends."""
