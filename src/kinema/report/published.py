"""What the papers print about the size and cost of their networks, and what they leave open.

Facts only: `kinema.report.papers` counts and compares. The figures are those of the papers' tables
and text; where a paper was not at hand, the name of the source says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

Confidence = Literal["high", "medium-high", "medium", "medium-low", "low"]


@dataclass(frozen=True)
class CountingRule:
    """Another way to count operations than ours (see `count_cost`), which a paper may have used.

    Attributes:
        text: Says it in a sentence.
        norms: Operations for every element that passes a batch norm.
        biases: Operations for every element that a convolution adds a bias to.
        linear: Operations for every MAC of a linear layer.
        products: Operations for every MAC of an attention's matrix products.
    """

    text: str
    norms: float = 0
    biases: float = 0
    linear: float = 1
    products: float = 1


@dataclass(frozen=True)
class Published:
    """Figures that a paper prints for one network and one clip.

    Attributes:
        model: Name for `create_model`.
        frames: T of the clip.
        params: As printed, such as "24.3M"; None where none is.
        gflops: As printed, such as "33", for one view; None where none is.
        source: Paper and place.
        options: Keyword arguments for `create_model`.
        classes: Number of classes that the parameters fit.
        size_px: Side of the frames.
        rule: Another way to count under which the GFLOPs may agree.
        note: What one should know about the figure.
        ours: False for a way to read the paper that kinema does not take by default.
    """

    model: str
    frames: int
    params: str | None
    gflops: str | None
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    classes: int = 174
    size_px: int = 224
    rule: CountingRule | None = None
    note: str = ""
    ours: bool = True


@dataclass(frozen=True)
class OpenPoint:
    """Something the papers do not say, or say in two ways, and what kinema does about it.

    Attributes:
        number: By which docs and notes refer to it.
        models: Networks it matters to.
        point: What is open.
        decision: What kinema does.
        confidence: How sure that is.
    """

    number: int
    models: tuple[str, ...]
    point: str
    decision: str
    confidence: Confidence


_NORMS = CountingRule("Batch norms counted, at 2 operations per element.", norms=2)
_ONE_PRODUCT = CountingRule("One of the alignment's two products counted.", products=0.5)
# The hooks of github.com/Lyken17/pytorch-OpCounter at 3ab72b2. Its average pools are left out here:
# 0.001 G.
_THOP = CountingRule(
    "Counted as older versions of the tool thop do: batch norms at 2 operations per element, "
    "biases, linear layers at 2 per multiplication; attention products left out.",
    norms=2,
    biases=1,
    linear=2,
    products=0,
)

_FITS_400 = "The table is about a data set of 174 classes; its parameters fit 400."
_COPY_OF_TSN = "24.3M is TSN's own figure: the 39,360 weights of TIM make it 24.4M."
_TIM_AT_B = "Position b keeps 24.3M for TIM, but TEINet would not have 30.4M there."
_TEI_ELSEWHERE = "Only position a gives 30.4M."
_EIGHT_FRAMES = "33 is the figure for 8 frames in the other papers, and here."
_TABLE_1_HAS_65 = "Table 1 of the same paper has 65."
_TABLE_1_HAS_66 = "Table 1 of the same paper has 66."
_TWICE = "Twice the printed figure for 8 frames, which is rounded."
_GTE_RANGE = (
    "The text has only the range 18.0M to 19.3M. It does not say for which shares, and contradicts "
    "its formula on the direction. See point 7."
)
_GTE_DEPTHWISE = "A depth-wise shift in front of the 2D convolution fits the GFLOPs only."
_NO_ALIGNMENT = "Without saliency alignment, or with its products not counted."
_GST_CODE = (
    "The authors' code costs 29.00 and 58.00, too. With 4 operations per element of a norm, 1 of a "
    "ReLU and 9 of the max pool, as in the first thop, it would just be 29.45 and 58.90."
)
_ABOUT = "Remembered as about 43."

_tei = partial(Published, source="TEINet, table 2", classes=400)
_tea = partial(
    Published,
    params=None,
    gflops=None,
    source="TEA and its supplement (no such figures printed for these)",
)
_tsi_v1 = partial(Published, params=None, source="TSI, table 1")
_tsi_k400 = partial(Published, params=None, source="TSI, table 2", classes=400)
_tsi_speed = partial(Published, params=None, source="TSI, table 8")
_gte = partial(Published, params=None, source="GTE, table 2")
_gte_text = partial(Published, gflops=None, source="GTE, section 3.2")
_gst = partial(
    Published,
    gflops=None,
    source="GST, published tables (from memory, not checked against the text)",
)
_tam = partial(Published, source="TAM, section 4.3", classes=400, size_px=256)
_tam_table = partial(
    _tam, source="TAM, published tables (from memory, not checked against the text)", rule=_THOP
)

PUBLISHED: tuple[Published, ...] = (
    _tei("tsn_resnet50", 8, "24.3M", "33", note=_FITS_400),
    _tei("tsm_resnet50", 8, "24.3M", "33"),
    _tei("tsm_resnet50", 16, "24.3M", "65"),
    _tei("tim_resnet50", 8, "24.3M", "33", note=_COPY_OF_TSN),
    _tei("tim_resnet50", 16, "24.3M", "66", note=_COPY_OF_TSN),
    _tei("tim_resnet50", 8, "24.3M", "33", options={"at": "b"}, note=_TIM_AT_B, ours=False),
    _tei(
        "tim_resnet50",
        16,
        "24.3M",
        "66",
        options={"at": "b"},
        rule=_NORMS,
        note=_TIM_AT_B,
        ours=False,
    ),
    _tei("tei_resnet50", 8, "30.4M", "33", note=_FITS_400),
    _tei("tei_resnet50", 16, "30.4M", "66"),
    _tei("tei_resnet50", 8, "30.4M", "33", options={"at": "b"}, note=_TEI_ELSEWHERE, ours=False),
    _tei("tei_resnet50", 8, "30.4M", "33", options={"at": "c"}, note=_TEI_ELSEWHERE, ours=False),
    _tei("tei_resnet50", 8, "30.4M", "33", options={"at": "d"}, note=_TEI_ELSEWHERE, ours=False),
    _tea("me_resnet50", 8),
    _tea("mta_res2net50_26w_4s", 8),
    _tea("r2plus1d_conv_resnet50", 8),
    _tea("r2plus1d_cw_resnet50", 8),
    _tea("r2plus1d_shift_resnet50", 8),
    _tsi_v1("tea_res2net50_26w_4s", 8, gflops="35"),
    _tsi_v1("tea_res2net50_26w_4s", 16, gflops="70", note=_TWICE),
    _tsi_v1("stm_resnet50", 8, gflops="33"),
    _tsi_v1("stm_resnet50", 16, gflops="66"),
    _tsi_v1("tsi_resnet50", 8, gflops="34", rule=_ONE_PRODUCT),
    _tsi_v1("tsi_resnet50", 16, gflops="68", rule=_ONE_PRODUCT),
    _tsi_v1(
        "tsi_resnet50", 8, gflops="34", options={"alignment": False}, note=_NO_ALIGNMENT, ours=False
    ),
    _tsi_v1(
        "tsi_resnet50",
        16,
        gflops="68",
        options={"alignment": False},
        note=_NO_ALIGNMENT,
        ours=False,
    ),
    _tsi_k400("tsm_resnet50", 16, gflops="66", rule=_NORMS, note=_TABLE_1_HAS_65),
    _tsi_k400("stm_resnet50", 16, gflops="67", note=_TABLE_1_HAS_66),
    _tsi_speed("cti_resnet50", 8, gflops="33"),
    _tsi_speed("cti_resnet50", 16, gflops="66", rule=_NORMS),
    _tsi_speed("stm_resnet50", 16, gflops="66.5", note=_TABLE_1_HAS_66),
    _gte("tsm_resnet50", 16, gflops="33", note=_EIGHT_FRAMES),
    _gte("gst_resnet50", 8, gflops="29.5", note=_GST_CODE),
    _gte("gst_resnet50", 16, gflops="59", note=_GST_CODE),
    _gte("gte_resnet50", 8, gflops="25.3"),
    _gte("gte_resnet50", 16, gflops="50.6", note=_TWICE),
    _gte(
        "gte_resnet50",
        8,
        gflops="25.3",
        options={"lts": "depthwise"},
        note=_GTE_DEPTHWISE,
        ours=False,
    ),
    _gte_text("gte_resnet50", 8, "18.0M", options={"ratio": 0.25}),
    _gte_text("gte_resnet50", 8, "19.3M", options={"ratio": 0.5}, note=_GTE_RANGE),
    _gte_text(
        "gte_resnet50", 8, "18.0M", options={"lts": "depthwise"}, note=_GTE_DEPTHWISE, ours=False
    ),
    _gst("gst_resnet50", 8, "21.0M"),
    _gst("gst_large_resnet50", 8, None),
    _gst("c3d_resnet50", 8, "46.5M"),
    _tam("tam_resnet50", 8, "25.6M", "43"),
    _tam_table("c2d_resnet50", 8, "24.33M", "42.95"),
    _tam_table("c2d_tconv_resnet50", 8, "28.10M", "53.02"),
    _tam_table("i3d_resnet50", 8, "32.99M", "62.55"),
    _tam_table("nl_resnet50", 8, "31.69M", "64.49"),
    _tam_table("tam_global_resnet50", 8, "24.33M", "43", note=_ABOUT),
    _tam_table("tam_local_resnet50", 8, "25.59M", "43", note=_ABOUT),
    _tam_table("tam_se_resnet50", 8, "24.65M", "43", note=_ABOUT),
)

_TEI = ("tei_resnet50", "tim_resnet50", "mem_resnet50", "se_tim_resnet50")
_TEA = ("tea_res2net50_26w_4s", "mta_res2net50_26w_4s", "me_resnet50")
_TSI = ("tsi_resnet50", "sme_resnet50")
_GST = ("gst_resnet50", "gst_large_resnet50")
_TAM = tuple(f"tam{branch}_resnet50" for branch in ("", "_global", "_local", "_se", "_reverse"))

OPEN_POINTS: tuple[OpenPoint, ...] = (
    OpenPoint(
        1,
        _TEI,
        "Place of MEM and TIM in a block",
        "Before conv1 (a): only there TEINet has 30.4M parameters.",
        "high",
    ),
    OpenPoint(
        2,
        ("tei_resnet50", "mem_resnet50"),
        "Biases and norms in MEM",
        "Biases, no norms: 30.36M. Without biases it would be 30.34M, with norms instead 30.37M.",
        "medium",
    ),
    OpenPoint(
        3,
        _TEI,
        "Initial kernels of TIM",
        "Part shift; others by init=. Printed accuracies are those of networks that start so.",
        "medium-high",
    ),
    OpenPoint(
        4,
        ("se_tim_resnet50",),
        "Reduction of SE in front of TIM",
        "8, as in MEM. No printed figure depends on it.",
        "low",
    ),
    OpenPoint(
        5,
        _TEA,
        "Gate of ME",
        "sigmoid - 1/2 as in the authors' code; gate_scale=2 is the paper's 2 sigmoid - 1.",
        "high",
    ),
    OpenPoint(
        6,
        _TEA[:2],
        "First block of each stage in TEA",
        "As in the code: groups not chained, the fourth one pooled. The paper does not tell.",
        "high",
    ),
    OpenPoint(
        7,
        ("gte_resnet50",),
        "Widths of GTE's pair of layers",
        "Full shift C/2 to tC, then 2D tC to tC: parameters and GFLOPs fit at t = 1/4. The "
        "formula of the paper gives 18.68M.",
        "medium-high",
    ),
    OpenPoint(
        8,
        ("gte_resnet50",),
        "Initial weights of GTE, norm between the pair",
        "Each output shifts one input channel; no norm between. Ours.",
        "low",
    ),
    OpenPoint(
        9,
        _GST,
        "29.5 GFLOPs of GST",
        "Not met: 29.00, as the authors' code has. Norms, ReLUs and pools may have been counted.",
        "low",
    ),
    OpenPoint(
        10,
        _TSI,
        "Similarity in saliency alignment",
        "Two products, softmax over the keys, 1/sqrt(m), no sigmoid. 2.5 % above the printed "
        "GFLOPs, which fit one product.",
        "medium",
    ),
    OpenPoint(
        11,
        _TSI,
        "Levels of SME's pyramid",
        "Five convolutions for K = 4, as the sum from 0 to K is printed.",
        "medium",
    ),
    OpenPoint(
        12,
        _TSI,
        "Norms, last frame and pooling in SME",
        "Norms after both 1 x 1 convolutions, no motion at the last frame, pooling first.",
        "medium",
    ),
    OpenPoint(
        13,
        ("tsi_resnet50", "cti_resnet50"),
        "Softmax of CTI",
        "Over the two candidates of each channel.",
        "medium-high",
    ),
    OpenPoint(
        14,
        ("tsi_resnet50", "cti_resnet50"),
        "Initial kernels of CTI",
        "Part shift in each group.",
        "low",
    ),
    OpenPoint(
        15,
        _TSI,
        "TSI without channel attention; fusion by concatenation",
        "The motion map itself is added; conv3 is widened and starts as half of its weight twice.",
        "low",
    ),
    OpenPoint(
        16,
        _TAM,
        "Block styles a to d of TANet",
        "The positions a to d; b is the published network.",
        "medium",
    ),
    OpenPoint(
        17,
        ("tam_se_resnet50",),
        "Reduction of SE beside TAM's global branch",
        "8: gives 24.65M.",
        "medium",
    ),
    OpenPoint(
        18,
        ("c2d_pool_resnet50",),
        "Border of C2D-Pool",
        "The padded zeros count in the average.",
        "low",
    ),
    OpenPoint(
        19,
        ("i3d_resnet50", "c3d_resnet50"),
        "Inflation of I3D and C3D",
        "Each of the three slices starts as a third of the 2D weight. No figure depends on it.",
        "low",
    ),
    OpenPoint(
        20,
        ("stm_resnet50",),
        "Norms of STM",
        "One after the squeeze; the block's own norm and ReLU act on the sum of both paths.",
        "medium-low",
    ),
    OpenPoint(
        21,
        ("nl_resnet50", "tsm_nl_resnet50"),
        "GFLOPs of NL C2D",
        "The paper leaves the attention's products out; we count them (20.4 G).",
        "high",
    ),
)
