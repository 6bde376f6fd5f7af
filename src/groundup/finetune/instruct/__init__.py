"""Fine-tune an assistant."""
