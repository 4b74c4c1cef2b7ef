"""What every temporal module is, where it can sit, and how it is found by name.

Letters: B clips, T frames, N = B*T folded frames (clip-major), C channels, H, W.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import nn

from kinema.errors import OptionError, UnknownNameError, did_you_mean
from kinema.temporal.memory import Memory

Position = Literal[
    "block",
    "before_conv1",
    "after_conv1",
    "after_conv2",
    "before_addition",
    "after_block",
    "replace_conv1",
    "replace_conv2",
    "replace_conv3",
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

    A module knows its width and the number of frames and nothing of the backbone. Its first
    argument is its width `channels` or, for a module that takes the place of a convolution at a
    `replace_*` position, that convolution `conv`, whose change of width and size it makes too.

    Attributes:
        look_back: How many past frames an output frame depends on; None for the whole clip.
        look_ahead: How many future frames an output frame depends on; None for the whole clip.
        frames_in_weights: True when a weight's shape depends on T, so that T is fixed for good.
        inherited: First parts of the names of the parameters that start from the convolution whose
            place the module takes.
    """

    inherited: ClassVar[tuple[str, ...]] = ()

    frames_in_weights: bool = False

    def __init__(
        self, *, frames: int, look_back: int | None, look_ahead: int | None, causal: bool = False
    ) -> None:
        super().__init__()
        if frames < 1:
            raise OptionError(f"frames must be at least 1, got {frames}.")
        self.frames = frames
        self.causal = causal
        self.look_back = look_back
        self.look_ahead = look_ahead

    @abstractmethod
    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Mixes the folded frames along time."""

    def step(self, x_NCHW: torch.Tensor, memory: Memory) -> torch.Tensor:
        """The same for the newest frames of streams whose past is in `memory`.

        This form is right for every module that does not look ahead: it runs `forward` on each
        frame and the `look_back` frames before it, or as many as the stream has had. A module
        with a cheaper form overrides it. Not for several threads at once.

        Args:
            x_NCHW: Newest frames, folded as in `forward`.
            memory: Of the same number of frames.
        """
        if self.look_back == 0:
            out_NCHW: torch.Tensor = self(x_NCHW)
            return out_NCHW
        assert self.look_back is not None
        longest = self.look_back + 1
        windows_NPCHW = memory.window(x_NCHW, longest)
        length_N = memory.window(torch.ones_like(x_NCHW[:, 0, 0, 0]), longest).sum(1)
        # Graphs hold all lengths, because which ones occur is known only when they run.
        lengths: Iterable[int] = range(1, longest + 1)
        if not torch.compiler.is_exporting():
            lengths = sorted({int(length) for length in length_N.tolist()})
        last_NCHW: torch.Tensor | None = None
        for length in lengths:
            now_NCHW = self._last_of(windows_NPCHW[:, -length:])
            if last_NCHW is not None:
                fits_N111 = (length_N == length)[:, None, None, None]
                now_NCHW = torch.where(fits_N111, now_NCHW, last_NCHW)
            last_NCHW = now_NCHW
        assert last_NCHW is not None
        return last_NCHW

    def gate_factors(self, x_NCHW: torch.Tensor) -> torch.Tensor | None:
        """Factors (N, C) of a module that only scales channels; None for any other module.

        Such a module's `forward` is `kernels.gate.gate(x, self.gate_factors(x))`.
        """
        return None

    def fold_gate(self, x_NCHW: torch.Tensor, factors_NC: torch.Tensor) -> torch.Tensor | None:
        """Output for x whose channels are scaled by the factors, without storing the product.

        None where this is no faster than the product followed by `forward`. A module that a gate
        may stand in front of can override it.
        """
        return None

    def _last_of(self, clips_BTCHW: torch.Tensor) -> torch.Tensor:
        """The output for the last frame of clips."""
        own, frames = self.frames, clips_BTCHW.shape[1]
        self.set_frames(frames)
        try:
            out_NCHW: torch.Tensor = self(clips_BTCHW.flatten(0, 1))
        finally:
            self.set_frames(own)
        return torch.unflatten(out_NCHW, 0, (-1, frames))[:, -1]

    def check_streaming(self) -> None:
        """Raises OptionError when the module cannot work on streams, frame by frame."""
        name = type(self).__name__
        if self.look_ahead != 0:
            seen = "the whole clip" if self.look_ahead is None else f"frames: {self.look_ahead}"
            raise OptionError(
                f"{name} looks ahead ({seen}), so it cannot work frame by frame, and this does not "
                "change afterwards. Train a causal network (model.causal=true in a recipe, "
                "causal=True in create_model; nl and tin have no causal form), or import a "
                "published online one (`kinema import --causal`)."
            )
        own = type(self).step is not TemporalModule.step
        if not own and (self.look_back is None or self.frames_in_weights):
            why = "depends on the whole past" if self.look_back is None else "has T in its weights"
            raise OptionError(
                f"{name} {why}, so its output for the newest frame cannot be made from a window "
                f"of frames. Give it a method `step` (see TemporalModule.step)."
            )

    @classmethod
    def from_conv(cls, conv: nn.Module, *, frames: int, **options: Any) -> "TemporalModule":
        """Builds the module that takes the place of `conv`, starting from its weights."""
        if not takes_conv(cls):
            raise OptionError(f"{cls.__name__} cannot take the place of a convolution.")
        build: Callable[..., TemporalModule] = cls
        return build(conv, frames=frames, **options)

    @classmethod
    def positions_for(cls, options: Mapping[str, Any]) -> tuple[Position, ...] | None:
        """Positions that a choice of options needs instead of the registered ones, or None."""
        return None

    def pinned_options(self) -> dict[str, Any]:
        """Options that building this module again needs besides those it was built with."""
        return {}

    def uncounted_macs(self, x_NCHW: torch.Tensor) -> int:
        """Multiply-adds on this input that are no convolution, linear layer or matrix product."""
        return 0

    def set_frames(self, frames: int) -> None:
        """Makes the module work on clips of `frames` frames.

        Raises:
            OptionError: a weight of this module depends on the number of frames.
        """
        self.check_frames(frames)
        for part in self.modules():
            if isinstance(part, TemporalModule):
                part.frames = frames

    def check_frames(self, frames: int) -> None:
        """Raises OptionError when the module cannot work on clips of `frames` frames."""
        for part in self.modules():
            if not isinstance(part, TemporalModule) or not part.frames_in_weights:
                continue
            if frames != part.frames:
                raise OptionError(
                    f"{type(part).__name__} was built for {part.frames} frames and its weights "
                    f"depend on that number, so it cannot run {frames}. `kinema import --frames "
                    f"{frames}` resamples its weights for {frames} frames."
                )

    def interpolate_frames(self, frames: int) -> None:
        """Changes T, resampling the weights that depend on it.

        Only for modules with `frames_in_weights`; for the others it is `set_frames`.
        """
        self.set_frames(frames)


def takes_conv(module: type[TemporalModule]) -> bool:
    """Whether the module is built from the convolution whose place it takes."""
    return "conv" in inspect.signature(module.__init__).parameters


@dataclass(frozen=True)
class TemporalEntry:
    """A registered temporal module: its name, its class and where it sits.

    `at` is the position of its paper, in blocks of three convolutions; `at_basic` the one that
    stands for it in blocks of two, where the paper's does not exist.
    """

    name: str
    module: type[TemporalModule]
    at: Position
    at_basic: Position | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the options that the module takes."""
        parameters = inspect.signature(self.module.__init__).parameters
        return tuple(p for p in parameters if p not in ("self", "channels", "conv", "frames"))

    def positions(self, options: Mapping[str, Any]) -> tuple[Position, ...]:
        """Where the module goes with these options, the paper's position first."""
        special = self.module.positions_for(options)
        if special is not None:
            return special
        return (self.at,) if self.at_basic is None else (self.at, self.at_basic)

    def build(self, channels: int, *, frames: int, options: Mapping[str, Any]) -> TemporalModule:
        """A module for a site of `channels` channels.

        Raises:
            OptionError: the module takes the place of a convolution, or refuses its options.
        """
        special = self.module.positions_for(options) or ()
        if takes_conv(self.module) or any(place.startswith("replace") for place in special):
            raise OptionError(
                f"Temporal module {self.name!r} takes the place of a convolution: put it at "
                f"{' or '.join(p for p in POSITIONS if p.startswith('replace'))}."
            )
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


def register(name: str, *, at: Position, at_basic: Position | None = None) -> Registered:
    """Class decorator: makes a module available under `name`.

    Args:
        name: For `insert`, `create_model(temporal=...)` and the command line.
        at: The position it gets when none is named.
        at_basic: The same for blocks of two convolutions, when they do not have `at`.
    """

    def add(module: type[TemporalModule]) -> type[TemporalModule]:
        if name in _REGISTRY and _REGISTRY[name].module is not module:
            raise OptionError(
                f"The name {name!r} already belongs to {_REGISTRY[name].module.__name__}."
            )
        _REGISTRY[name] = TemporalEntry(name=name, module=module, at=at, at_basic=at_basic)
        return module

    return add


def temporal_named(name: str) -> TemporalEntry:
    """The registered module of that name.

    Raises:
        UnknownNameError: no module has this name; the message has the nearest one.
    """
    if name not in _REGISTRY:
        raise UnknownNameError(
            f"Unknown temporal module {name!r}. {did_you_mean(name, _REGISTRY)} A module of your "
            "own needs its file: kinema --plugin FILE.py, or import it in Python."
        )
    return _REGISTRY[name]


def list_temporal() -> list[str]:
    """The names of all temporal modules, sorted.

    Example:
        >>> "tim" in list_temporal()
        True
    """
    return sorted(_REGISTRY)
