"""Before a run: what it will cost, and what to choose for it."""
