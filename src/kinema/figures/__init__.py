"""The papers' figures, drawn from a trained network."""
