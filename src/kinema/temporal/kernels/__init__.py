"""The few primitives along time, each a fast form beside its plain reference form."""
