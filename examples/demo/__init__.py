"""Both shops in four processes, and what visitors see of the cache: `python -m examples.demo`."""
