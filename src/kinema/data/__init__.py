"""Videos to clips: decoding, sampling, transforms, annotations, data sets and loaders."""

from kinema.data.annotations import FORMATS, read_annotations
from kinema.data.dataset import VideoDataset
from kinema.data.decode import open_source
from kinema.data.transforms import normalise

__all__ = ["FORMATS", "VideoDataset", "normalise", "open_source", "read_annotations"]
