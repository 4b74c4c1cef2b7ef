"""Placements: sites selected by position, stages and blocks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kinema.errors import OptionError, SiteError
from kinema.temporal import POSITIONS, Position

# A word of BLOCK_WORDS, a number of blocks counted from the output, block numbers for every stage,
# or block numbers by stage.
Blocks = str | int | Sequence[int] | Mapping[int, Sequence[int]]
BLOCK_WORDS = ("all", "first", "even", "odd", "all_or_even")

# TSM's code skips every second block in all stages when one stage has this many (ResNet-101).
DEEP_STAGE_BLOCKS = 23


@dataclass(frozen=True)
class Part:
    """Temporal module of a network and its placement; unset values are those of its paper.

    Attributes:
        module: Temporal module, or a family of one module, such as "gst_large".
        at: Position inside the blocks, or several, of which the first one in the backbone is used
            (the second is the substitute in blocks of two convolutions).
        stages: Stage numbers 2 to 5, "default" or "efficient", as in `create_model`.
        blocks: See `VideoNetwork.insert`.
        options: Options of the module.
    """

    module: str
    at: str | Sequence[str] | None = None
    stages: Sequence[int] | str | None = None
    blocks: Blocks | None = None
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def over(self, other: "Part") -> "Part":
        """Returns this part with values of another one where it has none."""
        return Part(
            self.module,
            at=other.at if self.at is None else self.at,
            stages=other.stages if self.stages is None else self.stages,
            blocks=other.blocks if self.blocks is None else self.blocks,
            options={**other.options, **self.options},
        )


@dataclass(frozen=True)
class Site:
    """Place for a temporal module in a backbone.

    Attributes:
        stage: s for features at 1/2**s of the input size (res2 to res5 of the papers).
        block: Number of the block inside its stage, from 0.
        at: Position inside the block.
        channels: Channels at this site.
        path: Name of the backbone's layer that the site belongs to.
        frame_stride: Frames of the clip per frame at this site.
        modules: Names of the temporal modules in it, in the order they run.
    """

    stage: int
    block: int
    at: Position
    channels: int
    path: str
    frame_stride: int = 1
    modules: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"res{self.stage}.{self.block} {self.at}"


def match_sites(
    backbone: str,
    sites: Iterable[Site],
    *,
    at: Position,
    stages: Sequence[int] | None,
    blocks: Blocks,
) -> list[Site]:
    """Returns the sites of a placement, from input to output.

    Args:
        backbone: Name of the backbone, for messages.
        sites: All sites of the backbone.
        at: Position inside the blocks.
        stages: Stage numbers; all stages for None.
        blocks: See `VideoNetwork.insert`.

    Raises:
        SiteError: no site matches, or a named stage or block does not exist.
        OptionError: `blocks` has an unknown form.
    """
    sites = list(sites)
    here = [site for site in sites if site.at == at]
    if not here:
        offered = sorted({site.at for site in sites}, key=POSITIONS.index)
        raise SiteError(f"{backbone} has no site {at!r}. It offers: {', '.join(offered)}.")
    # A given stage without such a site is an error, even if other stages have one.
    numbers = sorted({site.stage for site in here})
    for stage in stages if stages is not None else ():
        if stage not in numbers:
            raise SiteError(
                f"{backbone} has no site {at!r} in stage {stage}. Stages that have one: "
                f"{', '.join(map(str, numbers))}."
            )
    if blocks == "all_or_even":
        # The depth of the whole network counts, not that of the chosen stages.
        blocks = "even" if any(s.block + 1 >= DEEP_STAGE_BLOCKS for s in here) else "all"
    wanted = [site for site in here if stages is None or site.stage in stages]
    chosen = _choose_blocks(wanted, blocks)
    if not chosen:
        raise SiteError(
            f"blocks={blocks!r} matches no site {at!r} of {backbone} in stages "
            f"{sorted({site.stage for site in wanted})}."
        )
    return chosen


def _choose_blocks(sites: list[Site], blocks: Blocks) -> list[Site]:
    if isinstance(blocks, str):
        return _blocks_by_word(sites, blocks)
    if isinstance(blocks, int):
        return _last_blocks(sites, blocks)
    if isinstance(blocks, Mapping):
        pairs = {(stage, block) for stage, numbers in blocks.items() for block in numbers}
    else:
        pairs = {(site.stage, block) for site in sites for block in blocks}
    missing = sorted(pairs - {(site.stage, site.block) for site in sites})
    if missing:
        stage, block = missing[0]
        present = [site.block for site in sites if site.stage == stage]
        raise SiteError(
            f"There is no site in block {block} of stage {stage}. Blocks that have one: {present}."
        )
    return [site for site in sites if (site.stage, site.block) in pairs]


def _blocks_by_word(sites: list[Site], word: str) -> list[Site]:
    if word == "all":
        return sites
    if word in ("even", "odd"):
        return [site for site in sites if site.block % 2 == (word == "odd")]
    if word == "first":
        # If the first block of a stage lacks the position, the next one with it counts.
        first = {site.stage: site.block for site in reversed(sites)}
        return [site for site in sites if site.block == first[site.stage]]
    raise OptionError(
        f"blocks must be one of {', '.join(BLOCK_WORDS)}, a number of blocks, block numbers, or "
        f"block numbers by stage, got {word!r}."
    )


def _last_blocks(sites: list[Site], number: int) -> list[Site]:
    if not 1 <= number <= len(sites):
        raise OptionError(
            f"blocks={number}: the number of blocks, counted from the output, must be between 1 "
            f"and {len(sites)} here. For block number {number} write [{number}]."
        )
    return sites[-number:]
