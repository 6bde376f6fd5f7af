"""Tasks: files of questions, and how well a model answers them."""
