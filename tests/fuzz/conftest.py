"""The fuzz targets are run by themselves; pytest does not import them."""

collect_ignore_glob = ["fuzz_*.py"]
