"""Faults of a decoder that no file of ours can cause: it crashes, hangs, or eats all memory."""

from pathlib import Path

# Python runs this at its start. A video's name says what happens when it is opened.
_FAULTS = """\
import os, signal, sys, time

if "kinema.decoders.worker" in sys.orig_argv:
    real = os.path.isdir

    def isdir(path):
        if "crash" in str(path):
            os.kill(os.getpid(), signal.SIGSEGV)
        if "bug.mp4" in str(path):
            raise ZeroDivisionError("bug")
        if "hang" in str(path):
            time.sleep(600)
        if "hungry" in str(path):
            bytearray(2**31)
        return real(path)

    os.path.isdir = isdir
"""


def with_faults(folder: Path) -> Path:
    """A folder for PYTHONPATH that puts the faults into decoding processes."""
    (folder / "sitecustomize.py").write_text(_FAULTS, encoding="utf-8")
    return folder
