"""Tokenizers: characters, words and byte-level BPE."""
