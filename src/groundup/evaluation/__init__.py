"""Evaluate a language model: loss, baselines on the same bytes, samples, memorization."""
