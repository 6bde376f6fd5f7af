"""Measuring a language model, beside yardsticks on the same bytes."""
