"""Cuts every segment of a class from a long video into a separate file.

    python cut_highlights.py runs/first/best match.mp4 goal highlights/

Needs the program ffmpeg, which copies frames without re-encoding, from keyframe to keyframe.
"""

import subprocess
import sys
from pathlib import Path

import kinema


def main(checkpoint: str, video: str, wanted: str, folder: str) -> None:
    """Writes folder/0.mp4, folder/1.mp4, ... and prints the time span of each."""
    recognizer = kinema.Recognizer.load(checkpoint)
    if wanted not in recognizer.labels:
        sys.exit(f"There is no class {wanted!r}, only {', '.join(recognizer.labels)}.")
    segments = [s for s in recognizer.timeline(video).segments if s.name == wanted]
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number, segment in enumerate(segments):
        target = Path(folder) / f"{number}.mp4"
        times = ["-ss", str(segment.start_s), "-to", str(segment.end_s)]
        subprocess.run(
            ["ffmpeg", "-v", "error", "-n", *times, "-i", video, "-c", "copy", str(target)],
            check=True,
        )
        print(f"{target}: {segment.start_s:.2f} s to {segment.end_s:.2f} s, {segment.prob:.0%}")
    print(f"{len(segments)} segments of {wanted}")


if __name__ == "__main__":
    main(*sys.argv[1:])
