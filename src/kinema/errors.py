"""The exception tree.

Messages state what was expected, what was given, its source and the fix. Each error also derives
from the builtin that it resembles, so that code without knowledge of kinema can catch it. All can
be built from the message alone, as pickle does, so that they pass between processes.
"""

import difflib
import math
from collections.abc import Iterable
from numbers import Integral


class KinemaError(Exception):
    """Base of all errors that a user can cause and fix."""


class UnreadableVideoError(KinemaError, OSError):
    """A video file or frame folder cannot be read; the message names it and the reason."""


class AnnotationError(KinemaError, ValueError):
    """An annotation file does not have the expected form; the message names file and line."""


class RecipeError(KinemaError, ValueError):
    """A recipe or a `key=value` override is wrong; the message names the key and its source."""


class UnknownNameError(KinemaError, LookupError):
    """A network, module, backbone or option name does not exist; the message has a near match."""


class SiteError(KinemaError, LookupError):
    """A placement matches no site of the backbone."""


class OptionError(KinemaError, ValueError):
    """An option is outside its range or does not fit the others."""


def check_whole(**values: object) -> None:
    """Checks that options are whole numbers.

    Raises:
        OptionError: a value is of another type; the message names the option and the value.

    Example:
        `check_whole(clips=clips, crops=crops)`
    """
    for name, value in values.items():
        if not isinstance(value, Integral):
            raise OptionError(f"{name} must be a whole number, got {value!r}.")


def check_range(
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    **values: float | None,
) -> None:
    """Checks options against bounds; None passes, NaN and infinity do not.

    Raises:
        OptionError: a value is outside; the message names the option, the bounds and the value.

    Example:
        `check_range(at_least=1, frames=frames, classes=classes)`
    """
    for name, value in values.items():
        if value is None or (
            math.isfinite(value)
            and (at_least is None or value >= at_least)
            and (above is None or value > above)
            and (at_most is None or value <= at_most)
        ):
            continue
        if at_least is not None and at_most is not None:
            wanted = f"between {at_least} and {at_most}"
        else:
            bounds = {"at least": at_least, "above": above, "at most": at_most}
            wanted = " and ".join(f"{words} {b}" for words, b in bounds.items() if b is not None)
        finite = " and finite" if math.isinf(value) else ""
        raise OptionError(f"{name} must be {wanted}{finite}, got {value}.")


class InputShapeError(KinemaError, ValueError):
    """A tensor passed to a public function has the wrong shape, type or number of frames."""


class InputTypeError(KinemaError, TypeError):
    """An object passed to a public function is of a kind that it does not take."""


class CheckpointError(KinemaError, ValueError):
    """A checkpoint or weight file does not belong to the network it is loaded into."""


class TensorMismatchError(CheckpointError):
    """The tensors of a file and of a network do not match; the attributes hold all names."""

    def __init__(
        self, message: str, *, unused: tuple[str, ...] = (), missing: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.unused = unused
        self.missing = missing


class FetchError(KinemaError, OSError):
    """A published file cannot be fetched; the message says why and how to get it by hand."""


class OutputError(KinemaError, OSError):
    """A result cannot be written; the message names the file, the reason and the fix."""


class ClusterError(KinemaError, RuntimeError):
    """A job on several processes or machines cannot continue; finished results are kept."""


class InstallationError(KinemaError, ImportError):
    """Installed packages do not fit each other; the message names them and the fix."""


class MissingExtraError(KinemaError, ImportError):
    """An optional package is missing; the message names the extra to install."""


def missing_extra(
    task: str, package: str | None, extra: str, *, note: str = ""
) -> MissingExtraError:
    """Returns the error for an optional package that is not installed.

    Args:
        task: Subject of the sentence, such as "Training".
        package: Name of the missing package.
        extra: The extra of kinema that contains it.
        note: Further advice, a clause that follows the command.
    """
    return MissingExtraError(
        f"{task} needs {package}, which is not installed. In the folder of kinema run "
        f'pip install ".[{extra}]"{note}.'
    )


_SHOWN = 40  # longer lists of names are abridged


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Suggests the nearest valid name, or lists the valid names (some of many) if none is near."""
    names = sorted(choices)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if near:
        return f"Did you mean {near[0]!r}?"
    if len(names) > _SHOWN:
        return f"There are {len(names)}, such as {', '.join(names[:: len(names) // 5][:5])}."
    return f"Valid are: {', '.join(names)}." if names else "There is none to choose from."
