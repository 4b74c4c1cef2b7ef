"""Reports when actions begin and end in front of a camera.

    python watch.py runs/live/best rtsp://camera/1

The network must be causal: train it with model.causal=true. The source can also be a video
file or the number of a camera.
"""

import sys

import kinema


def main(checkpoint: str, source: str) -> None:
    """Prints a line whenever the displayed class changes or disappears."""
    recognizer = kinema.Recognizer.load(checkpoint)
    with recognizer.stream(source) as live:
        for result in live:
            if result.changed:
                print(f"{result.time_s:8.2f} s  {result.shown.name if result.shown else '-'}")
    print(live.summary)


if __name__ == "__main__":
    main(*sys.argv[1:])
