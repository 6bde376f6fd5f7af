"""Fine-tuning an assistant."""
