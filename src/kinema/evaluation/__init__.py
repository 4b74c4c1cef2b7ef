"""Test protocols, metrics and score files."""
