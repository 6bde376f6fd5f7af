"""The ladder from text to ids: characters, words, byte-level BPE."""
