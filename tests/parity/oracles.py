"""Slow forms of the temporal modules, written from the papers' equations, frame by frame.

Every oracle takes clips (B, T, C, H, W) and the module's tensors by name, and shares no code with
`kinema`. Without running statistics among the tensors a norm uses those of the batch, as in
training. Causal forms read earlier frames only; what compares two frames acts on the later one.
They stand in one file, a little longer than others may be, to be read from top to bottom beside the
papers.

Letters: B clips, T frames, C channels, H, W, D reduced channels, K taps, S = H*W, O outputs.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Mapping[str, Tensor]


def frame(x_BT: Tensor, t: int) -> Tensor:
    """Frame t of every clip; zeros outside the clip."""
    return x_BT[:, t] if 0 <= t < x_BT.shape[1] else torch.zeros_like(x_BT[:, 0])


def each_frame(x_BT: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.stack([function(x_BT[:, t]) for t in range(x_BT.shape[1])], 1)


def conv(x_BTCHW: Tensor, weight: Tensor, bias: Tensor | None = None, **how: int) -> Tensor:
    return each_frame(x_BTCHW, lambda x: F.conv2d(x, weight, bias, **how))


def each_channel_3x3(x_BTCHW: Tensor, weight_C133: Tensor) -> Tensor:
    return conv(x_BTCHW, weight_C133, padding=1, groups=len(weight_C133))


def norm(x_BTC: Tensor, w: Weights, name: str) -> Tensor:
    """Batch norm of axis 2, whatever axes follow."""
    mean, var = w.get(f"{name}.running_mean"), w.get(f"{name}.running_var")
    if mean is None or var is None:
        others = [axis for axis in range(x_BTC.ndim) if axis != 2]
        mean, var = x_BTC.mean(others), x_BTC.var(others, correction=0)
    scale = w[f"{name}.weight"] / torch.sqrt(var + 1e-5)
    shape = (-1, *(1,) * (x_BTC.ndim - 3))
    return x_BTC * scale.reshape(shape) + (w[f"{name}.bias"] - mean * scale).reshape(shape)


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)


def part(w: Weights, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): w[name] for name in w if name.startswith(prefix)}


def neighbors(x_BT: Tensor, taps: int, *, causal: bool) -> list[list[Tensor]]:
    """For each t the frames under a kernel: t-K//2 .. t+K//2, or t-K+1 .. t."""
    start = 1 - taps if causal else -(taps // 2)
    times = range(x_BT.shape[1])
    return [[frame(x_BT, t + start + k) for k in range(taps)] for t in times]


def over_time(
    x_BT: Tensor, taps: int, term: Callable[[int, Tensor], Tensor], *, causal: bool
) -> Tensor:
    """y_t = sum over k of term(k, x_{t + k - K//2}); tap 0 reads the earliest frame."""
    rows = neighbors(x_BT, taps, causal=causal)
    return torch.stack([sum(term(k, x) for k, x in enumerate(row)) for row in rows], 1)


def depthwise(x_BTCHW: Tensor, weight_C1K1: Tensor, *, causal: bool = False) -> Tensor:
    """TEINet eq. 4: Y_{c,t} = sum_i V_{c,i} U_{c,t+i}."""
    kernel_KC11 = weight_C1K1[:, 0].transpose(0, 1).unsqueeze(-1)
    taps = len(kernel_KC11)
    return over_time(x_BTCHW, taps, lambda k, x: kernel_KC11[k] * x, causal=causal)


def dense(x_BTCHW: Tensor, weight_OCKhw: Tensor, *, causal: bool = False, **how: int) -> Tensor:
    """A K x h x w convolution as K 2D convolutions."""
    return over_time(
        x_BTCHW,
        weight_OCKhw.shape[2],
        lambda k, x: F.conv2d(x, weight_OCKhw[:, :, k], **how),
        causal=causal,
    )


def moved(x_BTCHW: Tensor, offset_C: Sequence[int]) -> Tensor:
    """Channel c of frame t is channel c of frame t + offset_C[c]."""
    times = range(x_BTCHW.shape[1])
    return torch.stack(
        [
            torch.stack([frame(x_BTCHW, t + o)[:, c] for c, o in enumerate(offset_C)], 1)
            for t in times
        ],
        1,
    )


def offsets(init: str, channels: int, *, divisor: int = 8, causal: bool = False) -> list[int]:
    """The frame that each channel reads under an initial kernel, relative to its own.

    Part shift is eq. 2 of TEA's supplement; TSM's online form puts past to present first.
    """
    ahead = 0 if causal else 1
    few = channels // {"half_shift": 2, "quarter_shift": 4}.get(init, divisor)
    part_shift = [(-1, few)] if causal else [(1, few), (-1, few)]
    runs = {
        "identity": [],
        "half_shift": [(ahead, few), (-1, channels - few)],
        "quarter_shift": [(-1, few), (0, channels - 2 * few), (ahead, few)],
    }.get(init, part_shift)
    found = [offset for offset, count in runs for _ in range(count)]
    return found + [0] * (channels - len(found))


def tsm(x: Tensor, w: Weights, *, divisor: int = 8, causal: bool = False) -> Tensor:
    return moved(x, offsets("part_shift", x.shape[2], divisor=divisor, causal=causal))


def tim(x: Tensor, w: Weights, *, causal: bool = False) -> Tensor:
    return depthwise(x, w["weight"], causal=causal)


def tconv(x: Tensor, w: Weights, *, causal: bool = False) -> Tensor:
    return dense(x, w["weight"].unsqueeze(-1), causal=causal)


def tpool(x: Tensor, w: Weights, *, kernel: int = 3, causal: bool = False) -> Tensor:
    return over_time(x, kernel, lambda _, x_t: x_t / kernel, causal=causal)


def inflated(
    x: Tensor,
    w: Weights,
    *,
    stride: int,
    padding: int = 0,
    groups: int = 1,
    causal: bool = False,
) -> Tensor:
    how = {"stride": stride, "padding": padding, "groups": groups}
    bias = w["bias"][:, None, None] if "bias" in w else 0
    return dense(x, w["weight"], causal=causal, **how) + bias


def scaled(x_BTCHW: Tensor, gate_BTC: Tensor) -> Tensor:
    return x_BTCHW * gate_BTC[..., None, None]


def se(x: Tensor, w: Weights, *, causal: bool = False) -> Tensor:
    hidden = torch.relu(linear(x.mean((3, 4)), w, "squeeze"))
    return scaled(x, torch.sigmoid(linear(hidden, w, "expand")))


def mem(x: Tensor, w: Weights, *, causal: bool = False) -> Tensor:
    """TEINet eq. 1-3; the frame without a partner is copied."""
    frames, pooled = x.shape[1], x.mean((3, 4))
    out = []
    for t in range(frames):
        other = t - 1 if causal else t + 1
        gate = torch.ones_like(pooled[:, t])
        if 0 <= other < frames:
            present = linear(pooled[:, t], w, "reduce_present")
            motion = present - linear(pooled[:, other], w, "reduce_other")
            gate = torch.sigmoid(linear(motion, w, "restore"))
        out.append(x[:, t] * gate[..., None, None])
    return torch.stack(out, 1)


def at_one_of_two(pairs: list[Tensor], like_BTD: Tensor, *, causal: bool) -> Tensor:
    """Values of pairs (t, t+1) at frame t, or at t+1 when causal; zeros at the frame left over."""
    left_over = torch.zeros_like(like_BTD[:, 0])
    return torch.stack([left_over, *pairs] if causal else [*pairs, left_over], 1)


def differences(present: Tensor, following: Tensor, *, causal: bool) -> Tensor:
    frames = present.shape[1]
    found = [following[:, t + 1] - present[:, t] for t in range(frames - 1)]
    return at_one_of_two(found, present, causal=causal)


def me(
    x: Tensor, w: Weights, *, transform: str = "next", gate_scale: float = 1, causal: bool = False
) -> Tensor:
    reduced = norm(conv(x, w["reduce.0.weight"]), w, "reduce.1")
    following = reduced
    if transform != "none":
        following = each_channel_3x3(reduced, w["transform.weight"])
    present = following if transform == "both" else reduced
    motion = differences(present, following, causal=causal).mean((3, 4), keepdim=True)
    gate = torch.sigmoid(norm(conv(motion, w["expand.0.weight"]), w, "expand.1"))
    return x + x * gate_scale * (gate - 0.5)


def tdm(x: Tensor, w: Weights, *, causal: bool = False) -> Tensor:
    """TDN's code: half a sigmoid, minus a quarter, for either neighbor."""
    reduced = norm(conv(x, w["reduce.0.weight"]), w, "reduce.1")
    moved = each_channel_3x3(reduced, w["transform.weight"])
    height, width = x.shape[3:]
    # Nearest: row i of the large map is row i * h // H of the small one.
    rows = [i * (height // 2) // height for i in range(height)]
    columns = [i * (width // 2) // width for i in range(width)]
    out = x
    for step in (-1,) if causal else (-1, 1):
        motion = torch.stack(
            [
                moved[:, t + step] - reduced[:, t]
                if 0 <= t + step < x.shape[1]
                else torch.zeros_like(reduced[:, t])
                for t in range(x.shape[1])
            ],
            1,
        )
        pooled = each_frame(motion, lambda frame: F.avg_pool2d(frame, 2))
        coarse = norm(conv(pooled, w["coarse.0.weight"], padding=1), w, "coarse.1")
        fine = norm(conv(motion, w["fine.0.weight"], padding=1), w, "fine.1")
        mean = (motion + coarse[:, :, :, rows][..., columns] + fine) / 3
        gate = torch.sigmoid(norm(conv(mean, w["expand.0.weight"]), w, "expand.1")) - 0.5
        out = out + x * gate * (1 if causal else 0.5)
    return out


def mta(x: Tensor, w: Weights, *, first: bool, stride: int = 1, causal: bool = False) -> Tensor:
    groups = x.chunk(4, 2)
    out: list[Tensor] = []
    for i in range(3):
        group = groups[i] if i == 0 or first else groups[i] + out[-1]
        mixed = depthwise(group, w[f"shifts.{i}.weight"], causal=causal)
        mixed = conv(mixed, w[f"convs.{i}.weight"], stride=stride, padding=1)
        out.append(torch.relu(norm(mixed, w, f"bns.{i}")))
    last = depthwise(groups[3], w["shifts.3.weight"], causal=causal)
    if first:  # the mean of 3 x 3 pixels, the zeros around the frame counted
        ninth = torch.full((last.shape[2], 1, 3, 3), 1 / 9, dtype=x.dtype)
        last = conv(last, ninth, stride=stride, padding=1, groups=len(ninth))
    return torch.cat([*out, last], 2)


def gst(x: Tensor, w: Weights, *, stride: int = 1, beta: int = 2, causal: bool = False) -> Tensor:
    each = x.shape[2] // beta
    how = {"stride": stride, "padding": 1}
    spatial = conv(x[:, :, :each], w["spatial.weight"], **how)
    temporal = dense(x[:, :, x.shape[2] - each :], w["temporal"], causal=causal, **how)
    return torch.cat([spatial, temporal], 2)


def gte(
    x: Tensor,
    w: Weights,
    *,
    stride: int = 1,
    lts: str = "full",
    conv2d: bool = True,
    causal: bool = False,
) -> Tensor:
    """GTE eq. 1-3 on the right half of the channels, then a 2D convolution."""
    left, right = x.chunk(2, 2)
    spatial = conv(left, w["spatial.weight"], stride=stride, padding=1)
    if lts == "full":
        temporal = dense(right, w["lts"].unsqueeze(-1), causal=causal)
    else:
        temporal = depthwise(right, w["lts"], causal=causal)
    if conv2d:
        temporal = conv(temporal, w["conv2d.weight"], stride=stride, padding=1)
    else:
        temporal = temporal[..., ::stride, ::stride]
    return torch.cat([spatial, temporal], 2)


def stm(x: Tensor, w: Weights, *, stride: int = 1, causal: bool = False) -> Tensor:
    shifted = depthwise(x, w["shift.weight"], causal=causal)
    reduced = norm(conv(x, w["reduce.0.weight"]), w, "reduce.1")
    following = each_channel_3x3(reduced, w["transform.weight"])
    motion = differences(reduced, following, causal=causal)
    out = conv(shifted, w["conv.weight"], stride=stride, padding=1)
    return out + conv(motion, w["expand.weight"], stride=stride)


def sme(
    x: Tensor,
    w: Weights,
    *,
    pyramid: int = 4,
    alignment: bool = True,
    channel_attention: bool = True,
    causal: bool = False,
) -> Tensor:
    """TSI eq. 3-7."""
    reduced = norm(conv(x, w["reduce.0.weight"]), w, "reduce.1")
    motions = []
    for t in range(x.shape[1] - 1):
        present, following = reduced[:, t], reduced[:, t + 1]
        if alignment:
            query_BSD, key_BDS = present.flatten(2).transpose(1, 2), following.flatten(2)
            similar_BSS = torch.softmax(query_BSD @ key_BDS / math.sqrt(key_BDS.shape[1]), -1)
            found_BSD = similar_BSS @ key_BDS.transpose(1, 2)
            following = following * found_BSD.transpose(1, 2).reshape(following.shape)
        level, motion = torch.zeros_like(following), torch.zeros_like(following)
        for k in range(pyramid + 1):
            weight = w[f"pyramid.{k}.weight"]
            level = F.conv2d(level + following, weight, padding=1, groups=len(weight))
            motion = motion + level - present
        motions.append(motion)
    motion = at_one_of_two(motions, reduced, causal=causal)
    if not channel_attention:
        return x + norm(conv(motion, w["expand.0.weight"]), w, "expand.1")
    pooled = motion.mean((3, 4), keepdim=True)
    return x + x * torch.sigmoid(norm(conv(pooled, w["expand.0.weight"]), w, "expand.1"))


def cti(x: Tensor, w: Weights, *, groups: int = 4, causal: bool = False) -> Tensor:
    """TSI eq. 8-10, the softmax over the pair of candidates."""
    width = x.shape[2] // groups
    first, *others = x.split(width, 2)
    out = [first]
    for g, group in enumerate(others):
        pair = linear((out[-1] + group).mean((3, 4)), w, f"weigh.{g}")
        share = torch.softmax(torch.stack([pair[..., :width], pair[..., width:]]), 0)
        mixed = scaled(group, share[0]) + scaled(out[-1], share[1])
        out.append(depthwise(mixed, w[f"shifts.{g}.weight"], causal=causal))
    return torch.cat(out, 2)


def tsi(x: Tensor, w: Weights, *, fusion: str = "cascade", causal: bool = False) -> Tensor:
    salient = sme(x, part(w, "sme."), causal=causal)
    if fusion == "cascade":
        return cti(salient, part(w, "cti."), causal=causal)
    integrated = cti(x, part(w, "cti."), causal=causal)
    if fusion == "sum":
        return salient + integrated
    return conv(torch.cat([salient, integrated], 2), w["widened.weight"], padding=1)


def tam_gate(pooled: Tensor, w: Weights, *, causal: bool) -> Tensor:
    """The local branch's V (B, T, C)."""
    first = w["local_branch.0.weight"]
    hidden = over_time(pooled, 3, lambda k, p: p @ first[:, :, k].T, causal=causal)
    hidden = torch.relu(norm(hidden, w, "local_branch.1"))
    return torch.sigmoid(hidden @ w["local_branch.3.weight"][:, :, 0].T)


def tam_kernels(pooled: Tensor, w: Weights, *, window: int, causal: bool) -> Tensor:
    """The global branch's Theta (B, T or 1, C, K): causal, one from the window of each frame."""
    rows = neighbors(pooled, window, causal=True) if causal else [list(pooled.unbind(1))]
    rows_NCT = torch.cat([torch.stack(row, 2) for row in rows])
    hidden = torch.relu(norm(linear(rows_NCT, w, "global_branch.0"), w, "global_branch.1"))
    kernels_NCK = torch.softmax(linear(hidden, w, "global_branch.3"), -1)
    return torch.stack(kernels_NCK.split(len(pooled)), 1)


def grouped_conv(x_BTCHW: Tensor, kernels_BCK: Tensor) -> Tensor:
    """TAM's own way: one convolution with a group for every channel of every clip."""
    clips, frames, channels, height, width = x_BTCHW.shape
    rows = x_BTCHW.transpose(1, 2).reshape(1, clips * channels, frames, height * width)
    taps = kernels_BCK.shape[2]
    weight = kernels_BCK.reshape(clips * channels, 1, taps, 1)
    out = F.conv2d(rows, weight, padding=(taps // 2, 0), groups=clips * channels)
    return out.reshape(clips, channels, frames, height, width).transpose(1, 2)


def tam(
    x: Tensor,
    w: Weights,
    *,
    window: int = 0,
    kernel: int = 3,
    branches: str = "both",
    reverse: bool = False,
    causal: bool = False,
) -> Tensor:
    """TAM eq. 1-6; a window of 0 is as long as the clip."""
    pooled = x.mean((3, 4))
    gate = torch.ones_like(pooled)
    if branches in ("both", "local"):
        gate = tam_gate(pooled, w, causal=causal)
    elif branches == "global_se":
        hidden = torch.relu(linear(pooled, w, "frame_branch.0"))
        gate = torch.sigmoid(linear(hidden, w, "frame_branch.2"))
        pooled = gate * pooled
    if branches == "local":
        return scaled(x, gate)
    kernels = tam_kernels(pooled, w, window=window or x.shape[1], causal=causal)
    gated = x if reverse else scaled(x, gate)
    if causal:
        rows = enumerate(neighbors(gated, kernel, causal=True))
        out = torch.stack(
            [
                sum(kernels[:, t, :, k, None, None] * near for k, near in enumerate(row))
                for t, row in rows
            ],
            1,
        )
    else:
        out = grouped_conv(gated, kernels[:, 0])
    return scaled(out, gate) if reverse else out


def halved(x_NCHW: Tensor) -> Tensor:
    """The largest of each 2 x 2 pixels; an odd last row or column is left out."""
    height, width = (side // 2 * 2 for side in x_NCHW.shape[2:])
    corners = [(i, j) for i in (0, 1) for j in (0, 1)]
    return torch.stack([x_NCHW[:, :, i:height:2, j:width:2] for i, j in corners]).amax(0)


def largest(x_BTCHW: Tensor, frames: Callable[[int], Sequence[int]]) -> Tensor:
    """For each t the maximum over 3 x 3 positions of the given frames, within clip and picture."""
    height, width = x_BTCHW.shape[3:]
    padded = F.pad(x_BTCHW, (1, 1, 1, 1), value=-math.inf)
    near = torch.stack(
        [padded[..., i : i + height, j : j + width] for i in range(3) for j in range(3)]
    ).amax(0)
    times = range(x_BTCHW.shape[1])
    return torch.stack([near[:, [s for s in frames(t) if s in times]].amax(1) for t in times], 1)


def bigview(x: Tensor, w: Weights, *, stride: int = 1, window: str = "neighbors") -> Tensor:
    def view(y: Tensor, name: str) -> Tensor:
        return norm(conv(y, w["conv.weight"], stride=stride, padding=1), w, name)

    clip = range(x.shape[1])
    big = largest(x, lambda t: (t - 1, t, t + 1) if window == "neighbors" else clip)
    return view(x, "small_norm") + view(big, "big_norm")


def maxgate(x: Tensor, w: Weights) -> Tensor:
    top = conv(x.amax((1, 3, 4), keepdim=True), w["reduce.weight"])
    gated = conv(x, w["reduce.weight"]) * torch.sigmoid(top)
    return x + norm(conv(gated, w["expand.0.weight"]), w, "expand.1")


def by_groups(x_BTCHW: Tensor, weight: Tensor, groups: int) -> Tensor:
    """A convolution of each group of channels, along time if the weight has three axes of taps."""
    parts = zip(x_BTCHW.chunk(groups, 2), weight.chunk(groups), strict=True)
    if weight.shape[-1] == 1 and weight.shape[-2] == 3:
        return torch.cat([dense(y, part.unsqueeze(-1)) for y, part in parts], 2)
    return torch.cat([conv(y, part, padding=weight.shape[-1] // 2) for y, part in parts], 2)


def ct_mix(x: Tensor, w: Weights, groups: int) -> Tensor:
    def path(name: str) -> Tensor:
        return torch.relu(norm(by_groups(x, w[f"{name}.0.weight"], groups), w, f"{name}.1"))

    def attended(y: Tensor, name: str, over: tuple[int, ...]) -> Tensor:
        pooled = by_groups(y.mean(over, keepdim=True), w[f"{name}.0.weight"], groups)
        hidden = torch.relu(norm(pooled, w, f"{name}.1"))
        return y * torch.sigmoid(by_groups(hidden, w[f"{name}.3.weight"], groups))

    both = attended(path("spatial"), "spatial_attention", (1,))
    both = both + attended(path("temporal"), "temporal_attention", (3, 4))
    return attended(both, "channel_attention", (3, 4))


def ct(x: Tensor, w: Weights) -> Tensor:
    channels = x.shape[2]
    rows = 2 ** math.floor(math.log2(channels) / 2)
    columns = channels // rows
    fused = ct_mix(x, part(w, "rows."), rows)
    fused = torch.relu(norm(conv(fused, w["fusion.0.weight"]), w, "fusion.1"))
    to_columns = [row * columns + column for column in range(columns) for row in range(rows)]
    mixed = ct_mix(fused[:, :, to_columns], part(w, "columns."), columns)
    back = [to_columns.index(c) for c in range(channels)]
    return mixed[:, :, back]


def nonlocal_block(x: Tensor, w: Weights, *, mode: str = "embedded_gaussian") -> Tensor:
    clips, frames, _, height, width = x.shape
    g = conv(x, w["g.weight"], w["g.bias"])
    theta, phi = x, x
    if mode != "gaussian":
        theta, phi = (conv(x, w[f"{n}.weight"], w[f"{n}.bias"]) for n in ("theta", "phi"))
    queries = theta.transpose(1, 2).flatten(2)
    keys, values = (each_frame(y, halved).transpose(1, 2).flatten(2) for y in (phi, g))
    similar = queries.transpose(1, 2) @ keys
    similar = similar / keys.shape[2] if mode == "dot_product" else torch.softmax(similar, -1)
    found = (similar @ values.transpose(1, 2)).transpose(1, 2)
    found = found.reshape(clips, -1, frames, height, width).transpose(1, 2)
    return x + norm(conv(found, w["out.0.weight"], w.get("out.0.bias")), w, "out.1")


def tin(x: Tensor, w: Weights) -> Tensor:
    clips, frames, channels = x.shape[:3]
    quarter = channels // 16
    pooled = x[:, :, : 4 * quarter].mean((3, 4))

    def conv3(name: str) -> Tensor:
        taps = w[f"{name}.weight"]
        near = over_time(pooled, 3, lambda k, p: p @ taps[:, :, k].T, causal=False)
        return near + w[f"{name}.bias"]

    hidden = torch.relu(linear(conv3("offset_conv")[:, :, 0], w, "offset_net.0"))
    offset_B2 = 4 * (torch.sigmoid(linear(hidden, w, "offset_net.2")) - 0.5)
    weight_BT2 = 2 * torch.sigmoid(conv3("weight_conv"))
    out = x.clone()
    for b in range(clips):
        for number in range(4):
            some = slice(number * quarter, (number + 1) * quarter)
            offset = offset_B2[b, number % 2] * (1 if number < 2 else -1)
            whole = math.floor(offset.item())
            rest = offset - whole
            for t in range(frames):
                near = frame(x[b : b + 1, :, some], t - whole)[0]
                far = frame(x[b : b + 1, :, some], t - whole - 1)[0]
                out[b, t, some] = weight_BT2[b, t, number % 2] * ((1 - rest) * near + rest * far)
    return out


def moved_and_rest(x: Tensor, w: Weights, *, causal: bool) -> list[tuple[Tensor, Tensor]]:
    """GSM's gated part, moved by a frame, and the rest, for each half of the channels."""
    active = torch.relu(norm(x, w, "norm"))
    parts = []
    for half in range(2):
        part_x, part_active = x.chunk(2, 2)[half], active.chunk(2, 2)[half]
        gate = dense(part_active, w["gate_weight"][half : half + 1], causal=causal, padding=1)
        gated = torch.tanh(gate + w["gate_bias"][half]) * part_x
        offset = 1 if half == 0 and not causal else -1
        parts.append((moved(gated, [offset] * gated.shape[2]), part_x - gated))
    return parts


def interleaved(halves: list[Tensor]) -> Tensor:
    """The channels of the first and the second quarter of each half in turn."""
    outputs = []
    for half in halves:
        near, far = half.chunk(2, 2)
        outputs += [y[:, :, c] for c in range(near.shape[2]) for y in (near, far)]
    return torch.stack(outputs, 2)


def gsm(x: Tensor, w: Weights, *, causal: bool = False) -> Tensor:
    return interleaved([shifted + rest for shifted, rest in moved_and_rest(x, w, causal=causal)])


def gsf(
    x: Tensor, w: Weights, *, stride: int = 1, ratio: int = 100, causal: bool = False
) -> Tensor:
    x = conv(x, w["conv.weight"], stride=stride, padding=1)
    count = int(x.shape[2] * ratio / 100)
    count += count % 2
    halves = []
    for half, parts in enumerate(moved_and_rest(x[:, :, :count], w, causal=causal)):
        # Two rows of channels for each frame; the kernel's columns are three frames.
        means = torch.stack([part.mean((3, 4)) for part in parts], 2)
        kernel = w[f"fuse.{half}.weight"]
        near = over_time(
            means, 3, lambda k, m, v=kernel: F.conv1d(m, v[..., k], padding=1), causal=causal
        )
        share = torch.sigmoid(near + w[f"fuse.{half}.bias"])[:, :, 0]
        shifted, rest = parts
        halves.append(scaled(shifted, share) + scaled(rest, 1 - share))
    return torch.cat([interleaved(halves), x[:, :, count:]], 2)


def action(x: Tensor, w: Weights, *, causal: bool = False) -> Tensor:
    shifted = depthwise(x, w["shift.weight"], causal=causal)
    near = dense(shifted.mean(2, keepdim=True), w["spatial_weight"], causal=causal, padding=1)
    pooled = conv(shifted.mean((3, 4), keepdim=True), w["channel_reduce.weight"])
    hidden = torch.relu(dense(pooled, w["channel_weight"].unsqueeze(-1), causal=causal))
    reduced = norm(conv(shifted, w["motion_reduce.0.weight"]), w, "motion_reduce.1")
    following = each_channel_3x3(reduced, w["motion_transform.weight"])
    motion = differences(reduced, following, causal=causal).mean((3, 4), keepdim=True)
    raw = (near, conv(hidden, w["channel_expand.weight"]), conv(motion, w["motion_expand.weight"]))
    return sum(shifted * torch.sigmoid(gate) + shifted for gate in raw)


def displacement(present: Tensor, following: Tensor, radius: int) -> Tensor:
    """Mean way of each position, to the right and down, and its best match."""
    height, width = present.shape[2:]
    around = F.pad(following, [radius] * 4)
    ways = [(dx, dy) for dy in range(2 * radius + 1) for dx in range(2 * radius + 1)]
    alike = [(present * around[:, :, dy : dy + height, dx : dx + width]).sum(1) for dx, dy in ways]
    products = torch.stack(alike, 3)
    best, number = products.max(3)
    ways = torch.tensor(ways, dtype=present.dtype) - radius
    apart = (ways - ways[number].unsqueeze(3)).square().sum(4)
    shares = torch.softmax(100 * torch.exp(-apart / (2 * 5**2)) * products, 3)
    right, down = (shares @ (ways / radius)).unbind(3)
    return torch.stack([right, down, best], 1)


def separable(x: Tensor, w: Weights, name: str) -> Tensor:
    kernel = w[f"{name}.0.weight"]
    x = conv(x, kernel, padding=kernel.shape[2] // 2, groups=len(kernel))
    x = conv(torch.relu(norm(x, w, f"{name}.1")), w[f"{name}.3.weight"])
    return torch.relu(norm(x, w, f"{name}.4"))


def motion_squeeze(x: Tensor, w: Weights, *, radius: int = 7, causal: bool = False) -> Tensor:
    """Written from a description of the authors' code."""
    reduced = torch.relu(norm(conv(x, w["reduce.0.weight"]), w, "reduce.1"))
    unit = reduced / torch.sqrt(reduced.square().sum(2, keepdim=True) + 1e-6)
    times = range(x.shape[1] - 1)
    found = [displacement(unit[:, t], unit[:, t + 1], radius) for t in times]
    none = [torch.zeros_like(x[:, 0, :3])]
    maps = torch.stack(none + found if causal else found + (found[-1:] or none), 1)
    for stage in range(1, 5):
        maps = separable(maps, w, f"refine.conv{stage}")
    return x + maps
