"""Documents: reading, cleaning, splitting, auditing. Stage 1 of the roadmap begins here."""
