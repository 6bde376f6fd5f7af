"""Looking inside: captured activations, pictures, the report."""
