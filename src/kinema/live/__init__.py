"""Frames as they arrive, recognized one by one."""
