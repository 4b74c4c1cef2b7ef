"""Base class of temporal modules, their positions in a block, and their registry.

Letters: B clips, T frames, N = B*T folded frames (clip-major), C channels, H, W.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import nn

from kinema.errors import OptionError, UnknownNameError, check_range, did_you_mean
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

# Letters in the papers' figures, and the name in TSM's code.
POSITION_ALIASES: Mapping[str, Position] = {
    "a": "before_conv1",
    "b": "after_conv1",
    "c": "after_conv2",
    "d": "before_addition",
    "residual": "before_conv1",
}


def position_named(name: str) -> Position:
    """The position with this name or alias.

    Raises:
        UnknownNameError: there is no such position; the message suggests the nearest one.
    """
    places: dict[str, Position] = {**{place: place for place in POSITIONS}, **POSITION_ALIASES}
    if name not in places:
        raise UnknownNameError(f"Unknown position {name!r}. " + did_you_mean(name, places))
    return places[name]


class TemporalModule(nn.Module, ABC):
    """Mixes the frames of each clip: (N, C, H, W) -> (N, C, H, W) with N = B*T.

    A module knows its width and the number of frames but not the backbone. Its first argument is
    its width `channels`. A module that replaces a convolution (positions `replace_*`) has that
    convolution `conv` as its first argument and changes width and size as the convolution does.
    With an argument `norm` it replaces the norm behind the convolution, too.

    Attributes:
        look_back: Number of past frames that an output frame depends on; None for the whole clip.
        look_ahead: Number of future frames that an output frame depends on; None for the whole
            clip.
        frames_in_weights: True if the shape of a weight depends on T, which then cannot change.
        has_causal_form: True if the module can be built with `causal=True`.
        folds_norm: True if the module is a convolution with parameters `weight` (output channels
            first) and `bias`, into which a batch norm behind it can be folded.
        inherited: Prefixes of the parameters and buffers that start from the replaced convolution.
    """

    inherited: ClassVar[tuple[str, ...]] = ()

    has_causal_form: ClassVar[bool] = True
    folds_norm: ClassVar[bool] = False

    frames_in_weights: bool = False

    def __init__(
        self, *, frames: int, look_back: int | None, look_ahead: int | None, causal: bool = False
    ) -> None:
        super().__init__()
        check_range(at_least=1, frames=frames)
        if causal and not self.has_causal_form:
            raise OptionError(
                f"{type(self).__name__} has no causal form, because each of its output frames "
                "depends on the whole clip. Use another module, such as tsm, in a causal network."
            )
        self.frames = frames
        self.causal = causal
        self.look_back = look_back
        self.look_ahead = look_ahead

    @abstractmethod
    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Mixes the folded frames along time."""

    def step(self, x_NCHW: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Runs `forward` for the newest frames of streams whose past is in `memory`.

        This general form is valid for every module that does not look ahead: it runs `forward` on
        each frame with the `look_back` frames before it, or as many as the stream has had. A
        module with a cheaper form overrides it. It is not thread-safe.

        Args:
            x_NCHW: Newest frames, folded as in `forward`.
            memory: Memory of the streams, for the same number of frames.
        """
        if self.look_back == 0:
            out_NCHW: torch.Tensor = self(x_NCHW)
            return out_NCHW
        assert self.look_back is not None
        longest = self.look_back + 1
        windows_NPCHW = memory.window(x_NCHW, longest)
        # A window of ones, zero before a stream's first frame, gives the frames that each one has.
        length_N = memory.window(torch.ones_like(x_NCHW[:, 0, 0, 0]), longest).sum(1)
        # A graph has to contain all lengths, since they are known only when it runs.
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
        """The output of `forward` for the last frame of each clip."""
        own, frames = self.frames, clips_BTCHW.shape[1]
        self.set_frames(frames)
        try:
            out_NCHW: torch.Tensor = self(clips_BTCHW.flatten(0, 1))
        finally:
            self.set_frames(own)
        return torch.unflatten(out_NCHW, 0, (-1, frames))[:, -1]

    def check_streaming(self) -> None:
        """Raises OptionError if the module cannot run on streams, frame by frame."""
        name = type(self).__name__
        if self.look_ahead != 0:
            seen = "the whole clip" if self.look_ahead is None else f"frames: {self.look_ahead}"
            remedy = (
                "Train a causal network (model.causal=true in a recipe, causal=True in "
                "create_model), or import a published online network (`kinema import --causal`)."
                if self.has_causal_form
                else "It has no causal form: use another module, such as tsm, in a causal network."
            )
            raise OptionError(
                f"{name} looks ahead ({seen}), so it cannot run frame by frame, and a trained "
                f"network cannot be converted. {remedy}"
            )
        own = type(self).step is not TemporalModule.step
        if not own and (self.look_back is None or self.frames_in_weights):
            why = "depends on the whole past" if self.look_back is None else "has T in its weights"
            raise OptionError(
                f"{name} {why}, so its output for the newest frame cannot be computed from a "
                f"window of frames. Implement its method `step` (see TemporalModule.step)."
            )

    @classmethod
    def from_conv(cls, conv: nn.Module, *, frames: int, **options: Any) -> "TemporalModule":
        """Builds the module that replaces `conv`, starting from its weights.

        The options of a module that replaces a norm, too, include this `norm`.
        """
        if not takes_conv(cls):
            raise OptionError(f"{cls.__name__} cannot replace a convolution.")
        build: Callable[..., TemporalModule] = cls
        return build(conv, frames=frames, **options)

    @classmethod
    def positions_for(cls, options: Mapping[str, Any]) -> tuple[Position, ...] | None:
        """Positions that these options need instead of the registered ones, or None."""
        return None

    def pinned_options(self) -> dict[str, Any]:
        """Options needed to rebuild this module, in addition to those it was built with."""
        return {}

    def uncounted_macs(self, x_NCHW: torch.Tensor) -> int:
        """Multiply-adds for this input outside convolutions, linear layers and matrix products."""
        return 0

    def set_frames(self, frames: int) -> None:
        """Sets the number of frames of a clip, T.

        Raises:
            OptionError: a weight of this module depends on T.
        """
        self.check_frames(frames)
        for part in self.modules():
            if isinstance(part, TemporalModule):
                part.frames = frames

    def check_frames(self, frames: int) -> None:
        """Raises OptionError if the module cannot run on clips of `frames` frames."""
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
        """Changes T and resamples the weights that depend on it.

        Modules with `frames_in_weights` override it; for the others it is `set_frames`.
        """
        self.set_frames(frames)


def check_choice(choices: tuple[str, ...], **values: str) -> None:
    """Raises OptionError, with the nearest valid word, for a value that is not among `choices`."""
    for name, value in values.items():
        if value not in choices:
            raise OptionError(f"Unknown {name} {value!r}. " + did_you_mean(value, choices))


def takes_conv(module: type[TemporalModule]) -> bool:
    """True if the module is built from the convolution that it replaces."""
    return "conv" in inspect.signature(module.__init__).parameters


def takes_norm(module: type[TemporalModule]) -> bool:
    """True if the module replaces the norm behind its convolution, too."""
    return "norm" in inspect.signature(module.__init__).parameters


@dataclass(frozen=True)
class TemporalEntry:
    """A registered temporal module.

    Attributes:
        name: Name for users.
        module: Class.
        at: Position in its paper, for blocks of three convolutions.
        at_basic: Position in blocks of two convolutions, if they do not have `at`.
    """

    name: str
    module: type[TemporalModule]
    at: Position
    at_basic: Position | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the module's options."""
        parameters = inspect.signature(self.module.__init__).parameters
        given = ("self", "channels", "conv", "norm", "frames")
        return tuple(p for p in parameters if p not in given)

    def positions(self, options: Mapping[str, Any]) -> tuple[Position, ...]:
        """Positions for these options, the paper's position first."""
        special = self.module.positions_for(options)
        if special is not None:
            return special
        return (self.at,) if self.at_basic is None else (self.at, self.at_basic)

    def build(self, channels: int, *, frames: int, options: Mapping[str, Any]) -> TemporalModule:
        """Builds a module for a site of `channels` channels.

        Raises:
            OptionError: the module replaces a convolution, or an option is invalid.
        """
        special = self.module.positions_for(options) or ()
        if takes_conv(self.module) or any(place.startswith("replace") for place in special):
            raise OptionError(
                f"Temporal module {self.name!r} replaces a convolution: put it at "
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


def register(
    name: str, *, at: Position, at_basic: Position | None = None
) -> Callable[[type[TemporalModule]], type[TemporalModule]]:
    """Class decorator that registers a temporal module under `name`.

    Args:
        name: Name for `insert`, `create_model(temporal=...)` and the command line.
        at: Default position.
        at_basic: Default position in blocks of two convolutions, if they do not have `at`.
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
    """The registered module with this name.

    Raises:
        UnknownNameError: no module has this name; the message suggests the nearest one.
    """
    if name not in _REGISTRY:
        raise UnknownNameError(
            f"Unknown temporal module {name!r}. {did_you_mean(name, _REGISTRY)} Load a module of "
            "your own with kinema --plugin FILE.py, or import it in Python."
        )
    return _REGISTRY[name]


def list_temporal() -> list[str]:
    """Names of all temporal modules, sorted.

    Example:
        >>> "tim" in list_temporal()
        True
    """
    return sorted(_REGISTRY)
