"""Video files and folders of frames: containers, frame index, decoding."""
