"""Rows to fine-tune on: labeled texts, conversations, preference pairs; their audit and split."""
