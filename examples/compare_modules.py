"""Costs of temporal modules, and of a combination that no paper uses.

python compare_modules.py
"""

import kinema


def main() -> None:
    """Prints parameters and multiply-adds of eight frames at 224 x 224, 174 classes."""
    for temporal in ("tsn", "tsm", "tim", "tei", "gte", "tsi", "tam"):
        show(temporal, kinema.create_model("resnet50", temporal=temporal, classes=174, frames=8))

    # Any module fits any position: motion excitation in the late stages of a TANet.
    mix = kinema.create_model("resnet50", temporal="tam", classes=174, frames=8)
    mix.insert("me", at="after_conv1", stages=(4, 5))
    show("tam + me", mix)


def show(name: str, net: kinema.VideoNetwork) -> None:
    """Prints one line of the table."""
    cost = net.cost(size=224)
    print(
        f"{name:10} {cost.params / 1e6:6.2f} M parameters  {cost.macs / 1e9:6.2f} G multiply-adds"
    )


if __name__ == "__main__":
    main()
