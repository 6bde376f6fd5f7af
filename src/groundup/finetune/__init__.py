"""Fine-tuning of a foundation model: a classifier and an assistant."""
