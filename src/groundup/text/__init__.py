"""Documents: read, clean, split and audit them. The first step of the pipeline."""
