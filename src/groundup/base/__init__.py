"""Ground floor: errors, configuration, files, the run folder, the device. Knows no word and no tensor shape."""
