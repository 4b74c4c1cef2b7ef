"""Videos to clips: decoding, sampling, transforms, annotations, data sets and loaders."""
