"""Annotated data sets: annotations, classes, sampling, transforms, data sets and loaders."""
