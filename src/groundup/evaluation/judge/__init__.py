"""Compare two sets of answers with a language model as the judge."""
