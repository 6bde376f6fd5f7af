"""Chat with an assistant."""
