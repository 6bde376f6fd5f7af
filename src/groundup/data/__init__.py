"""Token store, sliding windows, order and loader: from ids to input-target batches."""
