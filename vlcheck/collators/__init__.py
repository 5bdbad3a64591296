"""Checks of any collator: probes, what each id of a row is, what a collator made of it, and a tiny model's word."""
