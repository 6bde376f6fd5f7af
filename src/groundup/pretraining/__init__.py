"""Pretraining: from a data folder to a run folder; checks and comparison of runs."""
