"""groundup: from raw text to a language model that answers."""
