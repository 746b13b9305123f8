"""Floor 0: pure functions and values. No I/O, and the time is always an argument."""
