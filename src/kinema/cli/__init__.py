"""The command line: parse, call a task, print. One file per command."""
