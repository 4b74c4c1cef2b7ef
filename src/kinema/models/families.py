"""Families of networks: each is a row of parts, temporal modules with their placements."""

from dataclasses import replace

from kinema.models.placement import Part
from kinema.temporal import list_temporal

_BIG_VIEWS = (
    Part("bigview", at="replace_conv1", stages=(3, 4, 5)),
    Part("bigview", at="replace_conv2", stages=(3, 4, 5)),
    Part("bigview", at="replace_conv3", stages=(3, 4, 5), options={"window": "clip"}),
)
_BEHIND_CONV1 = ("after_conv1",)
_BEHIND_CONV2 = ("after_conv2", "after_conv1")
_NON_LOCAL = Part("nl", stages=(3, 4), blocks="even")
_BEHIND_RES3 = Part("ms", stages=(3,), blocks=1)

# Modules of a family run in the order of its parts if they share a site. A family that is named
# like a module is this module alone: in a mix, each word adds what it says and nothing else.
FAMILIES: dict[str, tuple[Part, ...]] = {
    # The plain network, and its baselines.
    "tsn": (),
    "c2d_pool": (Part("tpool"),),
    "c2d_tconv": (Part("tconv"),),
    "i3d": (Part("i3d"),),
    "c3d": (Part("c3d"),),
    "nl": (_NON_LOCAL,),
    # Its relations between frames stand behind the backbone; see RELATIONAL.
    "trn": (),
    # TSM and its successors.
    "tsm": (Part("tsm", blocks="all_or_even"),),
    "tsm_nl": (Part("tsm", blocks="all_or_even"), _NON_LOCAL),
    "tin": (Part("tin"),),
    # MotionSqueeze alone, and as published, tensor for tensor.
    "ms": (_BEHIND_RES3,),
    "msnet": (
        Part("tsm", blocks="all_or_even"),
        replace(_BEHIND_RES3, options={"unused_norm": True}),
    ),
    "gsm": (Part("gsm"),),
    "gsf": (Part("gsf"),),
    "action": (Part("action", blocks="all_or_even"),),
    "tdn": (Part("tdm", stages=(3, 4, 5)), Part("tim", at=_BEHIND_CONV1, stages=(3, 4, 5))),
    # TEINet and its ablations.
    "tim": (Part("tim"),),
    "mem": (Part("mem"),),
    "tei": (Part("mem"), Part("tim")),
    "se_tim": (Part("se"), Part("tim")),
    # TEA, its ablations, and the (2+1)D networks of its supplement: r2plus1d_shift is (2+1)D ResNet
    # on a ResNet and (2+1)D Res2Net on a Res2Net.
    "r2plus1d_conv": (Part("tconv"),),
    "r2plus1d_cw": (Part("tim", at=_BEHIND_CONV1, options={"init": "random"}),),
    "r2plus1d_shift": (Part("tim", at=_BEHIND_CONV1),),
    "me": (Part("me"),),
    "me_tim": (Part("me"), Part("tim", at=_BEHIND_CONV1)),
    "mta": (Part("mta"),),
    "tea": (Part("me"), Part("mta")),
    # Grouped convolutions.
    "gst": (Part("gst"),),
    "gst_large": (Part("gst", options={"beta": 1}),),
    "gte": (Part("gte"),),
    # Grouped convolutions over a grid of channels, and a second view of every convolution.
    "ctnet": (Part("ctnet", blocks="odd"),),
    "smallbig": _BIG_VIEWS,
    "smallbig_extra": (Part("maxgate", stages=(3, 4, 5)), *_BIG_VIEWS),
    # TSI and its ablations.
    "sme": (Part("sme"),),
    "sme_tim": (Part("sme"), Part("tim", at=_BEHIND_CONV2)),
    "cti": (Part("cti"),),
    "tsi": (Part("tsi"),),
    "stm": (Part("stm"),),
    # TANet and its ablations.
    "tam": (Part("tam"),),
    "tam_global": (Part("tam", options={"branches": "global"}),),
    "tam_local": (Part("tam", options={"branches": "local"}),),
    "tam_se": (Part("tam", options={"branches": "global_se"}),),
    "tam_reverse": (Part("tam", options={"reverse": True}),),
}

# Families with a short-term branch, and the frames of their snippets.
SNIPPETS = {"tdn": 5}

# Other names of the literature.
ALIASES = {"c2d": "tsn", "tanet": "tam", "teinet": "tei"}

# Families whose head relates frames, instead of the mean of the frames' scores.
RELATIONAL = ("trn",)

# TEINet, section 4.3: all stages, or the last two for efficiency.
STAGE_PRESETS: dict[str, tuple[int, ...] | None] = {"default": None, "efficient": (4, 5)}


def families() -> dict[str, tuple[Part, ...]]:
    """Families of the papers, and one for every other registered temporal module."""
    inside = {row.module for rows in FAMILIES.values() for row in rows}
    others = {name: (Part(name),) for name in list_temporal() if name not in inside}
    return {**FAMILIES, **others}
