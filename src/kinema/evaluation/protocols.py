"""Test protocols of the literature by name, and their sources in the papers.

A protocol defines the views of a video and the sizes in pixels; frames are sampled by the
network's own rule, as in training (see `kinema.data.sampling`):

- segments: a clip has one frame of each of T equal parts of the video. One clip takes their middle
  frames. No paper defines N clips: here clip c of N takes the frame at (c + 0.5) / N of every
  part, so that clips interleave evenly.
- dense: a clip has T frames evenly from a window of 64 consecutive ones. One window lies in the
  middle of the video, N windows are spread evenly from its beginning to its end.

The scores of a video are the mean over its views, before softmax.
"""

from dataclasses import dataclass, replace

from kinema.errors import UnknownNameError, did_you_mean
from kinema.values import Preprocessing, Views


@dataclass(frozen=True)
class Protocol:
    """Test protocol.

    Attributes:
        name: Clips x crops, such as "10x3".
        about: Description in a sentence.
        views: Clips and crops.
        short_side_px: Short side of the resized frames.
        crop_px: Side of the square crops, unless `views` uses full resolution.
    """

    name: str
    about: str
    views: Views
    short_side_px: int = 256
    crop_px: int = 224

    def applied_to(self, preprocessing: Preprocessing) -> Preprocessing:
        """Returns a network's preprocessing with the sizes of this protocol."""
        return replace(preprocessing, short_side_px=self.short_side_px, crop_px=self.crop_px)


@dataclass(frozen=True)
class PaperTest:
    """Description of a test in a paper.

    Attributes:
        id: Short name: paper, I for inference, and what it is about.
        paper: The paper.
        place: Section or table.
        datasets: Data sets.
        protocol: Name of the protocol.
        reading: Gaps and contradictions in the paper, and how they are read here.
    """

    id: str
    paper: str
    place: str
    datasets: tuple[str, ...]
    protocol: str
    reading: str = ""


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("1x1-center", "One clip, the center crop of 224.", Views()),
        Protocol(
            "1x1-center-256to224",
            "One clip, the center crop of 256 resized to 224.",
            Views(resize_px=224),
            crop_px=256,
        ),
        Protocol("10x3", "Ten clips, three crops of 224 along the long side.", Views(10, 3)),
        Protocol(
            "10x3-256to224",
            "Ten clips, three crops of 256 along the long side, resized to 224.",
            Views(10, 3, resize_px=224),
            crop_px=256,
        ),
        Protocol(
            "10x3-256",
            "Ten clips, three crops of 256 along the long side.",
            Views(10, 3),
            crop_px=256,
        ),
        Protocol(
            "10x3-full",
            "Ten clips at full resolution: three squares of the whole short side.",
            Views(10, 3, full_resolution=True),
        ),
        Protocol(
            "4x3-256",
            "Four clips, three crops of 256 along the long side.",
            Views(4, 3),
            crop_px=256,
        ),
        Protocol(
            "2x3-256",
            "Two clips, three crops of 256 along the long side.",
            Views(2, 3),
            crop_px=256,
        ),
    )
}

_K400, _V1, _V2 = "Kinetics-400", "Something-Something V1", "Something-Something V2"
_UCF_HMDB = ("UCF101", "HMDB51")
_SIZES = "Sizes are not printed; the tables' GFLOPs fit 224."
_SPLITS = "The accuracy is the mean over the three splits: `kinema ensemble --splits`."

PAPER_TESTS: tuple[PaperTest, ...] = (
    PaperTest(
        "TEA-I-EFF", "TEA", "supplement, table 1 and section 5", (_V1,), "1x1-center", _SIZES
    ),
    PaperTest(
        "TEA-I-ACC",
        "TEA",
        "supplement, section 7 and table 4",
        (_V2,),
        "10x3-full",
        "Full resolution is read as TSM's: the three crops are squares of the short side of 256.",
    ),
    PaperTest("TEI-I-ABL", "TEINet", "section 4.3", (_V1,), "1x1-center", _SIZES),
    PaperTest(
        "TEI-I-FULL",
        "TEINet",
        "section 4.2",
        (_K400, _V1, _V2),
        "10x3",
        "The crop size is not printed; the tables' GFLOPs fit 224.",
    ),
    PaperTest("TEI-I-STH1", "TEINet", "section 4.4", (_V1, _V2), "1x1-center", _SIZES),
    PaperTest(
        "TEI-I-ENS",
        "TEINet",
        "section 4.4, tables 3 and 4",
        (_V1, _V2),
        "1x1-center",
        "Views and fusion are not printed; 99 GFLOPs are 66 and 33, so each network sees one view. "
        "`kinema ensemble` then averages the probabilities of the two with equal weights.",
    ),
    PaperTest(
        "TEI-I-UCFHMDB",
        "TEINet",
        "sections 4.1 and 4.4",
        _UCF_HMDB,
        "10x3",
        f"The sizes are those printed for the other data sets. {_SPLITS}",
    ),
    PaperTest("GTE-I", "GTE", "section 3.1", (_V1, _V2), "1x1-center", f"Middle frames. {_SIZES}"),
    PaperTest(
        "GTE-I-DIV", "GTE", "section 3.2", ("Diving48",), "1x1-center", f"16 frames. {_SIZES}"
    ),
    PaperTest("TSI-I-1", "TSI", "section 4.2", (_V1, _V2), "1x1-center-256to224"),
    PaperTest("TSI-I-30", "TSI", "section 4.2", (_K400, _V1, _V2), "10x3-256to224"),
    PaperTest(
        "TSI-I-UCFHMDB",
        "TSI",
        "section 4.3",
        _UCF_HMDB,
        "10x3-256to224",
        f"Splits are not mentioned. {_SPLITS}",
    ),
    PaperTest(
        "TSI-I-ABL",
        "TSI",
        "section 4.4",
        (_V1,),
        "1x1-center-256to224",
        "Sizes are not repeated: those of section 4.2.",
    ),
    PaperTest("TAM-I-K400-8f", "TAM", "section A.1", (_K400,), "10x3-256"),
    PaperTest("TAM-I-K400-16f", "TAM", "sections A.1 and 4.4", (_K400,), "4x3-256"),
    PaperTest(
        "TAM-I-STH1",
        "TAM",
        "section A.1",
        (_V1,),
        "1x1-center",
        "The number of clips is not printed: one, as with center crops elsewhere.",
    ),
    PaperTest(
        "TAM-I-STH2",
        "TAM",
        "section A.1",
        (_V2,),
        "2x3-256",
        "Said to be as on Kinetics but with two clips, so the three crops of 256 are kept.",
    ),
    PaperTest("TAM-I-ABL", "TAM", "section 4.3, tables 2 and 3", (_K400,), "10x3-256"),
)


def protocol_named(name: str) -> Protocol:
    """Returns the protocol of a name.

        Raises:
            UnknownNameError: the name does not
    exist; the message has the nearest one.

        Example:
            >>> protocol_named("4x3-256").views.count
            12
    """
    if name not in PROTOCOLS:
        raise UnknownNameError(f"Unknown protocol {name!r}. " + did_you_mean(name, PROTOCOLS))
    return PROTOCOLS[name]


def paper_tests(protocol: Protocol) -> tuple[PaperTest, ...]:
    """Tests in the papers that use a protocol."""
    return tuple(test for test in PAPER_TESTS if test.protocol == protocol.name)
