"""The machine this process runs on: cores, memory, devices, fonts and files."""
