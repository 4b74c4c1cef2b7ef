"""Live recognition, frame by frame: sources, frame queue, online network, smoothing."""
