"""The training loop, and the trainer of every run: checkpoints, resuming, checks."""
