"""Fine-tune a text classifier."""
