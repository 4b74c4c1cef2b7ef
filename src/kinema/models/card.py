"""Model card of a saved network: known facts, and gaps for its author to fill.

Facts that the network does not provide are marked as not stated, in italics.
"""

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version

from kinema.models.network import VideoNetwork
from kinema.values import Preprocessing

# config.json has all class names; the card shows the first ones.
NAMES_SHOWN = 50

# Entries of each section; others go to the facts at the top.
DATA = ("Training videos", "Validation videos")
RECIPE = ("Trained", "Settings", "Started from", "Imported from")
RESULTS = (
    "Validation top-1",
    "Validation top-5",
    "Validation mean class accuracy",
    "Printed by the publisher",
)
LICENSE = ("License",)

# Header for model hubs.
HEADER = """---
library_name: kinema
pipeline_tag: video-classification
tags:
- action-recognition
- video
---"""

NO_LICENSE = (
    "*Not stated. The license of kinema's code does not cover the weights: the terms of the "
    "training\nvideos do, and those of the weights that training started from.*"
)

EXAMPLE = """```python
import kinema

recognizer = kinema.Recognizer.load("this-folder")
print(recognizer.predict("video.mp4").top)
```"""


def model_card(
    net: VideoNetwork, labels: Sequence[str], how: Preprocessing, notes: Mapping[str, str]
) -> str:
    """Builds the card in Markdown, with the header that model hubs read.

    Args:
        net: The network.
        labels: Its K class names.
        how: Sampling and preprocessing of its clips.
        notes: Additional entries, such as {"Validation top-1": "91.2 %"}; names in `DATA`,
            `RECIPE`, `RESULTS` and `LICENSE` go to these sections, others to the facts.
    """
    placed = {*DATA, *RECIPE, *RESULTS, *LICENSE}
    facts = _facts(net, labels, how)
    facts |= {name: text for name, text in notes.items() if name not in placed}
    parts = [
        HEADER,
        f"# {net.name}",
        f"Action recognition in video, saved by kinema {version('kinema')}. Lines in italics are "
        "for its maker to\nfill in before the folder is given to others.",
        _bullets(facts, facts),
        f"Class names: {_shown(labels)}.",
        f"## Intended use\n\n{_use(net)}\n\n{EXAMPLE}",
        "*For whom and for what it was made, and what it must not be used for: not stated.*",
        "## Data",
        _bullets(notes, DATA),
        "*Where the videos come from, who is seen in them, how they were labeled: not stated.*",
        "## Recipe",
        _bullets(notes, RECIPE) or "*How it was trained: not stated.*",
        "## Results",
        _bullets(notes, RESULTS) or "*Accuracy: not measured, or not stated.*",
        f"## Limits\n\n{_limits(net)}",
        "## License of the weights",
        _bullets(notes, LICENSE) or NO_LICENSE,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _facts(net: VideoNetwork, labels: Sequence[str], how: Preprocessing) -> dict[str, str]:
    window = f" from {how.window_frames} consecutive ones" if how.has_window else ""
    modules = list(dict.fromkeys(insertion.module for insertion in net.spec.insertions))
    if net.spec.temporal_pool:
        modules.append("temporal pool")
    if how.snippet > 1:
        modules.append("short-term branch")
    of = f"snippets of {how.snippet} " if how.snippet > 1 else ""
    return {
        "Network": f"{net.name} ({sum(p.numel() for p in net.parameters()):,} parameters)",
        "Backbone": net.facts.name,
        "Temporal modules": ", ".join(modules) or "none",
        "Input": f"{how.frames} {of}frames ({how.sampling}{window}), "
        f"short side {how.short_side_px}, crop {how.crop_px} x {how.crop_px}, RGB",
        "Classes": str(len(labels)),
    }


def _shown(labels: Sequence[str]) -> str:
    more = ", ... (all are in config.json)" if len(labels) > NAMES_SHOWN else ""
    return ", ".join(labels[:NAMES_SHOWN]) + more


def _use(net: VideoNetwork) -> str:
    words = "Names the most probable of its classes for a short video of one action"
    if net.reach.look_ahead == 0 and net.facts.frame_stride == 1:
        return (
            f"{words}, or frame by frame\n(`kinema stream`): no frame's scores depend on later "
            "frames."
        )
    return f"{words}, or for windows of a\nlong one (`kinema timeline`)."


def _limits(net: VideoNetwork) -> str:
    lines = [
        f"It always answers with one of its {net.classes} classes, also where none happens.",
        "Its probabilities are not calibrated: 0.9 does not mean right nine times in ten.",
        "Other cameras, places, people and speeds than in its training videos can make it worse."
        "\n  Measure it on your own videos: `kinema evaluate`.",
    ]
    if not net.temporal_modules():
        lines.append(
            "It looks at frames one by one and cannot distinguish a motion from its reverse."
        )
    return "\n".join(f"- {line}" for line in lines)


def _bullets(notes: Mapping[str, str], names: Iterable[str]) -> str:
    return "\n".join(f"- **{name}**: {notes[name]}" for name in names if name in notes)
