"""Two small shops with the cache in front, and a demonstration that drives both: `python -m examples.demo`."""
