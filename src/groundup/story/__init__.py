"""The pipeline from end to end: which stages there are, their configs, and how to resume them."""
