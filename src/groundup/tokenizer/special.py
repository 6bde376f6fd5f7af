"""The special tokens: in every vocabulary from the start, so that fine-tuning never grows it."""

END_OF_TEXT = "<|endoftext|>"
"""Ends a document."""
USER = "<|user|>"
"""Opens what the person says."""
ASSISTANT = "<|assistant|>"
"""Opens the answer."""
END = "<|end|>"
"""Closes either."""

SPECIAL_TOKENS = (END_OF_TEXT, USER, ASSISTANT, END)
