"""Common names for tensors of published checkpoints and of kinema.

The common form is the name in timm's 2D backbone (`layer1.0.conv1.weight`, `blocks.1.0.bn1.bias`),
with a temporal module's tensors under the name of the module (`layer1.0.tam.G.0.weight`) and the
classifier as `head.`. Ordered rules rewrite both sides; a name without a rule is kept and then
reported as unused or missing.

Sources of the rules: the authors' repositories of TSM, TEA, TAM, GST, GSF, ACTION-Net, MSNet,
CT-Net, SmallBigNet and TDN, and mmaction2.
"""

import re
from collections.abc import Iterable

Rules = tuple[tuple[str, str], ...]

# The inverted residual blocks of MobileNetV2 in each of timm's stages.
MOBILENET_BLOCKS = (1, 2, 3, 4, 3, 3, 1)

# `blocks.S.B` of timm for each of them, from input to output.
_MOBILENET_NAMES = [f"blocks.{s}.{b}" for s, n in enumerate(MOBILENET_BLOCKS) for b in range(n)]

_PREFIXES = r"^(?:module\.)?(?:base_model\.)?(?:backbone\.)?"

_BLOCK = r"^(layer\d+\.\d+)\."

# TSM wraps the stage behind its temporal pool in `net`.
_POOLED = r"^(layer\d+)\.net\."

_OFFICIAL: Rules = (
    (r"^(?:new_fc|fc|classifier(?:\.1)?|cls_head\.fc_cls)\.(weight|bias)$", r"head.\1"),
    (r"^cls_head\.consensus\.fc_fusion_scales\.", "head.relations.scales."),
    (_POOLED, r"\1."),
    # TDN takes the layers over from two ResNets.
    (r"^(layer\d)_bak\.", r"\1."),
    (r"^resnext_layer1\.", "difference_layer1."),
    (r"^conv1_5\.", "difference_stem."),
    # TAM wraps the block in `net`, non-local and TANet of mmaction2 in `block`.
    (_BLOCK + r"(?:net|block)\.", r"\1."),
    # TIN wraps its modules and its convolution; mmaction2 once more in `conv`.
    (r"\.conv1\.(?:conv\.)?net1\.offset_net\.", ".tin.offset."),
    (r"\.conv1\.(?:conv\.)?net1\.weight_net\.conv\.", ".tin.weight."),
    (r"\.conv1\.(?:conv\.)?net2\.", ".conv1."),
    # The shift wraps its convolution in `net`.
    (r"\.net\.(weight|bias)$", r".\1"),
    (r"\.conv\.net\.", ".conv."),
    # mmaction2: convolution and norm in one module.
    (r"\.non_local_block\.conv_out\.conv\.", ".nl.W.0."),
    (r"\.non_local_block\.conv_out\.bn\.", ".nl.W.1."),
    (r"\.non_local_block\.(g\.0|phi\.0|theta)\.conv\.", r".nl.\1."),
    (r"\bconv(\d)\.conv\.", r"conv\1."),
    (r"\bconv(\d)\.bn\.", r"bn\1."),
    (r"\.downsample\.conv\.", ".downsample.0."),
    (r"\.downsample\.bn\.", ".downsample.1."),
    # CT-Net: its blocks have a convolution and its norm in a sequence.
    (_BLOCK + r"conv(\d)\.0\.", r"\1.conv\2."),
    (_BLOCK + r"conv(\d)\.1\.", r"\1.bn\2."),
    (r"\.conv2\.conv1_x\.", ".conv2.rows.spatial."),
    (r"\.conv2\.conv1_z\.", ".conv2.rows.temporal."),
    (r"\.conv2\.conv2_y\.", ".conv2.columns.spatial."),
    (r"\.conv2\.conv2_z\.", ".conv2.columns.temporal."),
    *(
        (rf"\.{letter}{axis}_attention\.", f".{side}.{path}_attention.")
        for axis, side in (("x", "rows"), ("y", "columns"))
        for letter, path in (("s", "spatial"), ("t", "temporal"), ("c", "channel"))
    ),
    (r"_attention\.fc1\.", "_attention."),
    (r"_attention\.fc2\.0\.", "_attention.3."),
    # Older TAM files.
    (r"\.self_conv\.conv_f\.", ".tam.G."),
    (r"\.self_conv\.conv_g\.", ".tam.L."),
    (_BLOCK + r"shifts\.(\d)\.conv\.weight$", r"\1.shifts.\2.weight"),
    (_BLOCK + r"Tconv\.weight$", r"\1.Tconv"),
    # MSNet's motion module stands beside the stages.
    (r"^chnl_reduction\.", "ms.reduce."),
    (r"^flow_refinement\.", "ms.refine."),
)

_OURS: Rules = (
    (r"^head\.classifier\.", "head."),
    (r"\.layer\.spatial\.weight$", ".weight"),
    (r"\.conv2\.layer\.temporal$", ".Tconv"),
    (r"\.conv2(?:\.layer)?\.(shifts|convs|bns)\.", r".\1."),
    (r"\.conv(\d)\.layer\.small_norm\.", r".bn\1."),
    (r"\.conv(\d)\.layer\.big_norm\.", r".big\1.1."),
    (r"\.before\.maxgate\.reduce\.", ".big4_1."),
    (r"\.before\.maxgate\.expand\.", ".big4_2."),
    (r"\.conv2\.before\.me\.reduce\.0\.", ".me.conv1."),
    (r"\.conv2\.before\.me\.reduce\.1\.", ".me.bn1."),
    (r"\.conv2\.before\.me\.transform\.", ".me.conv2."),
    (r"\.conv2\.before\.me\.expand\.0\.", ".me.conv3."),
    (r"\.conv2\.before\.me\.expand\.1\.", ".me.bn3."),
    (r"\.conv2\.before\.tam\.global_branch\.", ".tam.G."),
    (r"\.conv2\.before\.tam\.local_branch\.", ".tam.L."),
    (r"\.conv1\.before\.tin\.offset_conv\.", ".tin.offset.conv."),
    (r"\.conv1\.before\.tin\.offset_net\.0\.", ".tin.offset.fc1."),
    (r"\.conv1\.before\.tin\.offset_net\.2\.", ".tin.offset.fc2."),
    (r"\.conv1\.before\.tin\.weight_conv\.", ".tin.weight."),
    (r"\.after\.nl\.(g|phi)\.", r".nl.\1.0."),
    (r"\.after\.nl\.theta\.", ".nl.theta."),
    (r"\.after\.nl\.out\.", ".nl.W."),
    (r"\.conv\d\.layer\.gate_(weight|bias)$", r".gsf.conv3D.\1"),
    (r"\.conv\d\.layer\.norm\.", ".gsf.bn."),
    (r"\.conv\d\.layer\.fuse\.0\.", ".gsf.channel_conv1."),
    (r"\.conv\d\.layer\.fuse\.1\.", ".gsf.channel_conv2."),
    (r"\.(conv\d)\.layer\.conv\.", r".\1."),
    (r"\.before\.action\.shift\.", ".action_shift."),
    (r"\.before\.action\.spatial_weight$", ".action_p1_conv1.weight"),
    (r"\.before\.action\.channel_reduce\.", ".action_p2_squeeze."),
    (r"\.before\.action\.channel_weight$", ".action_p2_conv1.weight"),
    (r"\.before\.action\.channel_expand\.", ".action_p2_expand."),
    (r"\.before\.action\.motion_reduce\.0\.", ".action_p3_squeeze."),
    (r"\.before\.action\.motion_reduce\.1\.", ".action_p3_bn1."),
    (r"\.before\.action\.motion_transform\.", ".action_p3_conv1."),
    (r"\.before\.action\.motion_expand\.", ".action_p3_expand."),
    (r"^layer\d+\.\d+\.after\.ms\.unused\.", "bn2."),
    (r"^layer\d+\.\d+\.after\.ms\.", "ms."),
    (r"\.conv2\.before\.tdm\.reduce\.0\.", ".mse.conv1."),
    (r"\.conv2\.before\.tdm\.reduce\.1\.", ".mse.bn1."),
    (r"\.conv2\.before\.tdm\.transform\.", ".mse.conv2."),
    (r"\.conv2\.before\.tdm\.coarse\.0\.", ".mse.conv3_smallscale2."),
    (r"\.conv2\.before\.tdm\.coarse\.1\.", ".mse.bn3_smallscale2."),
    (r"\.conv2\.before\.tdm\.fine\.0\.", ".mse.conv3_smallscale4."),
    (r"\.conv2\.before\.tdm\.fine\.1\.", ".mse.bn3_smallscale4."),
    (r"\.conv2\.before\.tdm\.expand\.0\.", ".mse.conv3."),
    (r"\.conv2\.before\.tdm\.expand\.1\.", ".mse.bn3."),
    (r"\.conv2\.before\.tim\.", ".shift.conv."),
    (r"\.layer\.", "."),
)

# Tensors of the authors' networks that never take part in a forward pass: TDN's second network has
# the stem that its branch of differences replaces.
_NEVER_USED = re.compile(r"^conv1_temp\.")


def common_name(ours: str) -> str:
    """Common form of a name of kinema."""
    return _rewritten(ours.removeprefix("backbone."), _OURS)


def common_names(published: Iterable[str]) -> dict[str, str]:
    """Common form of each name in a published file."""
    names = list(published)
    bare = {name: re.sub(_PREFIXES, "", name) for name in names}
    if any(name.startswith("features.") for name in bare.values()):
        return {name: _mobilenet_of_torchvision(bare[name]) for name in names}
    if any(re.match(r"layer1\.0\.conv\.0\.", name) for name in bare.values()):
        return {name: _mobilenet_of_mmaction(bare[name]) for name in names}
    return {name: _rewritten(bare[name], _OFFICIAL) for name in names}


def is_never_used(published: str) -> bool:
    """True for a tensor that the authors' code saves and does not use."""
    return _NEVER_USED.match(re.sub(_PREFIXES, "", published)) is not None


def is_pooled(published: Iterable[str]) -> bool:
    """True for the names of a network of TSM's code with its temporal pool."""
    return any(re.match(_POOLED, re.sub(_PREFIXES, "", name)) for name in published)


def _rewritten(name: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _mobilenet_of_torchvision(name: str) -> str:
    """Rewrites `features.I.conv.J`, where J counts convolution, norm and activation of a block."""
    match = re.fullmatch(r"features\.(\d+)\.(?:conv\.)?(\d+)\.(?:net\.)?(.+)", name)
    if match is None:
        return _rewritten(name, _OFFICIAL)
    index, item, rest = int(match[1]), int(match[2]), match[3]
    if index == 0:
        return f"{('conv_stem', 'bn1')[item]}.{rest}"
    if index == len(_MOBILENET_NAMES) + 1:
        return f"{('conv_head', 'bn2')[item]}.{rest}"
    known = index <= len(_MOBILENET_NAMES)
    block = _MOBILENET_NAMES[index - 1] if known else f"features.{index}"
    return f"{block}.{_inverted_part(index == 1, item)}.{rest}"


def _mobilenet_of_mmaction(name: str) -> str:
    """Rewrites `layerS.B.conv.J.{conv,bn}`, and `conv1`, `conv2` for stem and head."""
    match = re.fullmatch(r"layer(\d+)\.(\d+)\.conv\.(\d)\.(?:net\.)?(conv|bn)\.(.+)", name)
    if match is None:
        name = re.sub(r"^conv1\.conv\.", "conv_stem.", name)
        name = re.sub(r"^conv2\.conv\.", "conv_head.", name)
        return _rewritten(name, _OFFICIAL)
    stage, block, part, kind, rest = match.groups()
    item = 3 * int(part) + (kind == "bn")
    return f"blocks.{int(stage) - 1}.{block}.{_inverted_part(stage == '1', item)}.{rest}"


def _inverted_part(first: bool, item: int) -> str:
    """Returns timm's name of item 0, 1, (2), 3, 4, (5), 6, 7; the first block has no expansion."""
    convs = ("conv_dw", "conv_pw") if first else ("conv_pw", "conv_dw", "conv_pwl")
    part, kind = divmod(item, 3)
    if part >= len(convs):
        return f"conv.{item}"
    return convs[part] if kind == 0 else f"bn{part + 1}"
