"""One run: from a data folder to a run folder, checkpoints, checks, comparison."""
