"""Before a run: its cost, and the choice of settings for a time budget."""
