"""Slow, obvious versions in plain Python and NumPy, to hold the real ones against."""
