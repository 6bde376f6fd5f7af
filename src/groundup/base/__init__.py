"""Ground floor: errors, config, files, run folder, device. Knows no word, no tensor shape."""
