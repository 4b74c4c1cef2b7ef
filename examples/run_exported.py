"""Predicts the classes of a video with an exported network, without kinema.

    pip install av numpy pillow onnxruntime    # or openvino, or torch
    python run_exported.py network.onnx video.mp4

Runs files written by `kinema export`: .onnx, .xml (OpenVINO) or .pt2 (torch.export). Class names
and preprocessing are stored in the file.
"""

import json
import os
import sys
from collections.abc import Callable

import av
import numpy as np
from PIL import Image

FACTS = "kinema"


def main(network: str, video: str, top: int = 5) -> None:
    """Prints the most probable classes and their probabilities."""
    run, facts = load(network)
    clip = read_clip(video, facts["preprocessing"])
    scores = run(clip)[0]
    probabilities = np.exp(scores - scores.max())
    probabilities /= probabilities.sum()
    for label in np.argsort(-probabilities)[:top]:
        print(f"{100 * probabilities[label]:5.1f} %  {facts['labels'][label]}")


def load(network: str) -> tuple[Callable[[np.ndarray], np.ndarray], dict]:
    """Returns the network as a function of (B, T, 3, H, W) float32 clips, and its metadata."""
    if network.endswith(".onnx"):
        import onnxruntime

        session = onnxruntime.InferenceSession(network)
        facts = session.get_modelmeta().custom_metadata_map[FACTS]
        return lambda clips: session.run(["scores"], {"clips": clips})[0], json.loads(facts)
    if network.endswith(".xml"):
        import openvino

        model = openvino.Core().read_model(network)
        facts = model.get_rt_info([FACTS]).astype(str)
        exact = {"INFERENCE_PRECISION_HINT": "f32"}  # else bfloat16 where the processor has it
        compiled = openvino.compile_model(model, "CPU", exact)
        return lambda clips: compiled({"clips": clips})["scores"], json.loads(facts)
    import torch

    extra = {FACTS: ""}
    module = torch.export.load(network, extra_files=extra).module()
    return lambda clips: module(torch.from_numpy(clips)).detach().numpy(), json.loads(extra[FACTS])


def read_clip(video: str, how: dict) -> np.ndarray:
    """Returns (1, T, 3, H, W): the sampled frames, resized, cropped and normalized."""
    with av.open(video) as container:
        total = sum(1 for _ in container.decode(video=0))
    wanted = choose_frames(total, how)
    with av.open(video) as container:
        kept = {
            number: prepare(upright(frame), how)
            for number, frame in enumerate(container.decode(video=0))
            if number in wanted
        }
    return np.stack([kept[number] for number in wanted])[None]


def upright(frame: av.VideoFrame) -> Image.Image:
    """Applies the display matrix: phones store rotated frames, some apps mirrored ones."""
    picture, turn_deg = frame.to_image(), frame.rotation
    stored = frame.side_data.get("DISPLAYMATRIX")
    if stored is not None:
        a, b, _, c, d = np.frombuffer(bytes(stored), np.int32)[:5].tolist()
        if a * d < b * c:  # a mirrored frame; its angle is off by 180 degrees
            picture, turn_deg = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), turn_deg + 180
    return picture.rotate(round(turn_deg / 90) * 90 % 360, expand=True)


def choose_frames(total: int, how: dict) -> list[int]:
    """Frame numbers: the middle of each of T segments, or T evenly spaced from a center window."""
    count = how["frames"]
    if how["sampling"] == "segments":
        return [min(int((i + 0.5) * total / count), total - 1) for i in range(count)]
    window = how["window_frames"]
    start = int(max(0, total - window) / 2)
    return [(start + i * (window // count)) % total for i in range(count)]


def prepare(picture: Image.Image, how: dict) -> np.ndarray:
    """Resizes the short side, crops the center and normalizes: (3, H, W) float32."""
    width, height = picture.size
    short, side = how["short_side_px"], how["crop_px"]
    size = (short, short * height // width) if width <= height else (short * width // height, short)
    picture = picture.resize(size, Image.Resampling.BILINEAR)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    pixels = np.asarray(picture.crop((left, top, left + side, top + side)), np.float32) / 255
    normal = (pixels - np.float32(how["mean"])) / np.float32(how["std"])
    return np.ascontiguousarray(normal.transpose(2, 0, 1), np.float32)


if __name__ == "__main__":
    files = sys.argv[1:]
    if len(files) != 2 or not all(map(os.path.isfile, files)):
        sys.exit("Usage: python run_exported.py NETWORK VIDEO, both existing files")
    try:
        main(*files)
    except av.FFmpegError as error:
        sys.exit(f"{files[1]} cannot be read: {error}")
