"""Trains a network on your own videos and predicts a new one.

    python train_and_ask.py runs/first new_video.mp4

Expects videos/train/CLASS/*.mp4 and videos/val/CLASS/*.mp4 in the current folder. Arguments such as
train.epochs=5 at the end override the recipe.
"""

import sys

import kinema


def main(run: str, video: str, *changes: str) -> None:
    """Trains into the folder `run`, prints the accuracy and the predicted classes of `video`."""
    recipe = kinema.train.load_recipe("recipes/own_videos.toml", changes)
    result = kinema.train.train(recipe, out=run)
    print(f"{100 * result.best.top1:.1f} % of the validation videos are correct")
    recognizer = kinema.Recognizer.load(f"{run}/best")
    for entry in recognizer.predict(video, clips=2).top:
        print(f"{entry.prob:6.1%}  {entry.name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
