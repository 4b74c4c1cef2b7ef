"""Rendered videos whose classes differ only in motion."""
