"""Sampling new ids from a model. Knows no tokenizer."""
