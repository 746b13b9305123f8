"""Floor 1: the stores and the wires between processes."""
