"""Operators along time: a fast form of each beside its plain reference form."""
