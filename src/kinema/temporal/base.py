"""What every temporal module is, where it can sit, and how it is found by name.

Letters: B clips, T frames, N = B*T folded frames (clip-major), C channels, H, W.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import nn

from kinema.errors import OptionError, UnknownNameError, did_you_mean

Position = Literal[
    "block",
    "before_conv1",
    "after_conv1",
    "after_conv2",
    "before_addition",
    "replace_conv1",
    "replace_conv2",
]
POSITIONS: tuple[Position, ...] = get_args(Position)

# The letters of the papers' figures, and the two places of TSM's code.
POSITION_ALIASES: Mapping[str, Position] = {
    "a": "before_conv1",
    "b": "after_conv1",
    "c": "after_conv2",
    "d": "before_addition",
    "residual": "before_conv1",
}


def position_named(name: str) -> Position:
    """The position a user's word means.

    Raises:
        UnknownNameError: there is no such position; the message has the nearest one.
    """
    if name in POSITION_ALIASES:
        return POSITION_ALIASES[name]
    for position in POSITIONS:
        if position == name:
            return position
    choices = (*POSITIONS, *POSITION_ALIASES)
    raise UnknownNameError(f"Unknown position {name!r}. " + did_you_mean(name, choices))


class TemporalModule(nn.Module, ABC):
    """Mixes the frames of each clip: (N, C, H, W) -> (N, C, H, W) with N = B*T.

    A module knows its width and the number of frames and nothing of the backbone. A module for a
    `replace_*` position is built by `from_conv` and may change width and size as that convolution
    does.

    Attributes:
        look_back: How many past frames an output frame depends on.
        look_ahead: How many future frames an output frame depends on.
        frames_in_weights: True when a weight's shape depends on T, so that T is fixed for good.
    """

    frames_in_weights: ClassVar[bool] = False

    def __init__(self, *, frames: int, look_back: int, look_ahead: int) -> None:
        super().__init__()
        if frames < 1:
            raise OptionError(f"frames must be at least 1, got {frames}.")
        self.frames = frames
        self.look_back = look_back
        self.look_ahead = look_ahead

    @abstractmethod
    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Mixes the folded frames along time."""

    @classmethod
    def from_conv(cls, conv: nn.Module, *, frames: int, **options: Any) -> "TemporalModule":
        """Builds the module that takes the place of `conv`, starting from its weights."""
        raise OptionError(f"{cls.__name__} cannot take the place of a convolution.")

    def set_frames(self, frames: int) -> None:
        """Makes the module work on clips of `frames` frames.

        Raises:
            OptionError: a weight of this module depends on the number of frames.
        """
        if self.frames_in_weights and frames != self.frames:
            raise OptionError(
                f"{type(self).__name__} was built for {self.frames} frames and its weights depend "
                f"on that number, so it cannot run {frames}."
            )
        self.frames = frames


@dataclass(frozen=True)
class TemporalEntry:
    """A registered temporal module: its name, class and the position of its paper."""

    name: str
    module: type[TemporalModule]
    at: Position

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the options that the module takes."""
        parameters = inspect.signature(self.module.__init__).parameters
        return tuple(p for p in parameters if p not in ("self", "channels", "frames"))

    def build(self, channels: int, *, frames: int, options: Mapping[str, Any]) -> TemporalModule:
        """A module for a site of `channels` channels."""
        make: Callable[..., TemporalModule] = self.module
        return make(channels, frames=frames, **options)

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raises UnknownNameError for an option that the module does not have."""
        for option in options:
            if option not in self.options:
                raise UnknownNameError(
                    f"Temporal module {self.name!r} has no option {option!r}. "
                    + did_you_mean(option, self.options)
                )


_REGISTRY: dict[str, TemporalEntry] = {}

Registered = Callable[[type[TemporalModule]], type[TemporalModule]]


def register(name: str, *, at: Position) -> Registered:
    """Class decorator: makes a module available under `name`, by default at position `at`."""

    def add(module: type[TemporalModule]) -> type[TemporalModule]:
        if name in _REGISTRY and _REGISTRY[name].module is not module:
            raise OptionError(
                f"The name {name!r} already belongs to {_REGISTRY[name].module.__name__}."
            )
        _REGISTRY[name] = TemporalEntry(name=name, module=module, at=at)
        return module

    return add


def temporal_named(name: str) -> TemporalEntry:
    """The registered module of that name.

    Raises:
        UnknownNameError: no module has this name; the message has the nearest one.
    """
    if name not in _REGISTRY:
        raise UnknownNameError(
            f"Unknown temporal module {name!r}. " + did_you_mean(name, _REGISTRY)
        )
    return _REGISTRY[name]


def list_temporal() -> list[str]:
    """The names of all temporal modules, sorted.

    Example:
        >>> "tim" in list_temporal()
        True
    """
    return sorted(_REGISTRY)
