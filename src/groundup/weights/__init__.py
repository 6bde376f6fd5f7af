"""Weights on disk: the format of groundup, and import from and export to Hugging Face."""
