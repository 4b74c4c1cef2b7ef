"""Video encoders of this machine's FFmpeg."""

from collections.abc import Iterable

import av


def installed_encoder(names: Iterable[str]) -> str:
    """Returns the first of these encoders that this build of FFmpeg has.

    Every build has "mpeg4", so that lists of preferred encoders end with it.
    """
    return next(name for name in names if name in av.codecs_available)
