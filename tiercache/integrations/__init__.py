"""Floor 4: the frameworks, each in a module that imports only its own."""
