"""Text generation in token ids. The package does not know tokenizers."""
