"""From the foundation model to a classifier and to an assistant."""
