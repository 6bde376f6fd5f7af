"""Slow, simple implementations in plain Python and NumPy, for tests to compare with."""
