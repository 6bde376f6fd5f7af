"""Weights on disk: our own format, and other projects' formats, both ways."""
