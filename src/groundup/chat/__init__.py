"""Talking with an assistant."""
