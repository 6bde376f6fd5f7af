"""See inside a model: captured attention, the report of a run, the page of the sliding window."""
