"""`python -m kinema` is the `kinema` program."""

from kinema.cli.main import run

run()
