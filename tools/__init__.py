"""What the Makefile, the tests and the demo share; nothing of it is installed."""
