"""Sweeps: one recipe, a table of variants and seeds, one result table."""
