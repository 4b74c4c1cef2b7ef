"""Labels and features for archives of videos, on Ray Data."""
