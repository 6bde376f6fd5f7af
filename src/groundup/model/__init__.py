"""The transformer: attention, blocks, the GPT class, its loss, and its compute and memory."""
