"""Floor 2: what happens in which order."""
